"""Decode once: every clip as 16 kHz mono int16 in one memory-mapped file, so that any window is one slice."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from slicer_lite.audio.decode import decode
from slicer_lite.audio.table import Table, cache_folder, read_table
from slicer_lite.base.files import naming, write_durably
from slicer_lite.config import SAMPLE_RATE, WINDOW

_FORMAT = 2  # part of the key: raise it when the files' meaning changes
_AHEAD = 4  # files for each thread that may be decoded before they are written: bounds the memory
_INDEX, _WAVEFORMS, _PATHS, _SKIPPED = "index.npz", "waveforms.i16", "paths.bin", "skipped.json"
_UNFINISHED = "unfinished-"
_TEXTS = ("task", "label", "split", "group")  # columns of the rows


class Clips:
    """Clips that can be heard and sliced: waveforms, and the labels that they carry.

    `clips[i]` is clip i's waveform, `(S,)` float32 in [-1, 1] at 16 kHz; `len(clips)` their number.

    Attributes:
        paths: `(N,)` where each clip came from (empty names for clips given as arrays).
        lengths: `(N,)` number of samples of each clip.
        split: `(N,)` train, validation, test or nothing.
        rows: one row for each label that a clip carries: `clip`, `task`, `label`, `split`, `group`.
        skipped: `(path, reason)` of files that could not be read.
        store: the folder in which the decoded clips lie, which `load_clips` takes too; None for arrays and parts.
    """

    def __init__(
        self,
        samples: np.ndarray,
        first: np.ndarray,
        lengths: np.ndarray,
        paths: Sequence[Path],
        rows: pd.DataFrame,
        split: np.ndarray,
        skipped: Sequence[tuple[str, str]] = (),
        store: Path | None = None,
    ):
        self._samples, self._first, self.lengths, self.store = samples, first, lengths, store
        self.paths, self.rows, self.split, self.skipped = paths, rows, split, tuple(skipped)
        self._resident: torch.Tensor | None = None  # the samples once more, on a device

    @classmethod
    def from_waveforms(cls, waveforms: Sequence[np.ndarray]) -> Clips:
        """Clips from 1-D float arrays in [-1, 1] at 16 kHz.

        Raises:
            ValueError: no arrays, or one that is not 1-D, empty, not finite or beyond [-1, 1].
        """
        checked = check_waveforms(waveforms)
        parts = [_padded(_to_int16(waveform)) for waveform in checked]
        lengths = np.array([len(waveform) for waveform in checked])
        rows = pd.DataFrame(columns=["clip", "task", "label", "split", "group"])
        first, samples = _layout(lengths), np.concatenate(parts)
        return cls(
            samples, first, lengths, [Path()] * len(parts), rows, np.full(len(parts), "", dtype=object)
        )

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, clip: int) -> np.ndarray:
        if not -len(self) <= clip < len(self):
            raise IndexError(f"There is no clip {clip}: there are {len(self)}.")
        begin = self._first[clip] + _lead(self.lengths[clip])
        return self._samples[begin : begin + self.lengths[clip]].astype(np.float32) / 32768

    @property
    def seconds(self) -> np.ndarray:
        """`(N,)` duration of each clip in seconds."""
        return self.lengths / SAMPLE_RATE

    @property
    def room(self) -> np.ndarray:
        """`(N,)` by how many samples a window can be shifted within each clip; 0 for clips of one window."""
        return np.maximum(self.lengths - WINDOW, 0)

    def windows(self, clips: np.ndarray, starts: np.ndarray) -> torch.Tensor:
        """`(B, 15200)` int16 windows that begin `starts` samples into `clips`.

        Clips shorter than a window are padded with zeros on both sides; their start is 0.
        """
        begin = self._first[clips] + starts
        # One row of these views for each sample of the store: picking rows copies whole windows at once.
        if self._resident is not None:
            place = torch.from_numpy(begin)
            if self._resident.device.type == "cuda":
                place = place.pin_memory()  # memory that a GPU reads by itself: nobody waits until it is idle
            place = place.to(self._resident.device, non_blocking=True)
            return self._resident.unfold(0, WINDOW, 1)[place]
        return torch.from_numpy(np.lib.stride_tricks.sliding_window_view(self._samples, WINDOW)[begin])

    @property
    def nbytes(self) -> int:
        """Bytes of the whole store's samples, also of clips that are only a part of it."""
        return self._samples.nbytes

    def on(self, device: torch.device) -> Clips:
        """The same clips with a copy of the store's samples on a device, where `windows` are then cut."""
        there = copy.copy(self)
        there._resident = torch.from_numpy(np.array(self._samples)).to(device)
        return there

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that some clip carries a label of, in the order of the table."""
        return list(dict.fromkeys(self.rows["task"]))

    def labels(self, task: str) -> np.ndarray:
        """`(N,)` each clip's label in a task; nothing (`''`) where it has none."""
        if task not in self.tasks:
            raise ValueError(f"There is no task {task!r}: the tasks are {', '.join(self.tasks) or 'none'}.")
        labels = np.full(len(self), "", dtype=object)
        rows = self.rows[self.rows["task"] == task]
        labels[rows["clip"]] = rows["label"]
        return labels

    def describe(self, clip: int) -> str:
        """A clip in a few words: its tasks and labels, or its file's name where it has no label."""
        rows = self.rows[self.rows["clip"] == clip]
        labels = (f"{task} {label}" for task, label in zip(rows["task"], rows["label"], strict=True))
        return ", ".join(labels) or self.paths[clip].name or f"clip {clip}"

    def subset(self, which: np.ndarray) -> Clips:
        """The clips at the given places, which may be repeated, or where a `(N,)` bool array is True.

        Raises:
            IndexError: a place that is not there, or a bool array of another length.
        """
        which = np.asarray(which)
        if which.dtype != bool:
            which = which.astype(int)  # an empty list's values have no type of their own
        which = np.arange(len(self))[which]
        # A row for each label of each clip that is taken: its places stand side by side once they are sorted.
        order = np.argsort(which, kind="stable")
        clip = self.rows["clip"].to_numpy(int)
        first, end = (np.searchsorted(which[order], clip, side) for side in ("left", "right"))
        taken = np.repeat(np.arange(len(clip)), end - first)
        nth = np.arange(len(taken)) - np.searchsorted(taken, taken)
        rows = self.rows.iloc[taken].assign(clip=order[first[taken] + nth]).reset_index(drop=True)
        return Clips(
            self._samples,
            self._first[which],
            self.lengths[which],
            _Picked(self.paths, which),
            rows,
            self.split[which],
        )

    def for_pretraining(self) -> Clips:
        """The clips that no task validates or tests on. Labels play no part in pre-training."""
        return self.subset(np.isin(self.split, ["train", ""]))

    def fingerprint(self) -> str:
        """A short hash of what is in the clips, to tell one data set from another."""
        digest = hashlib.sha256(np.ascontiguousarray(self.lengths).tobytes())
        # The first window of up to 1,000 clips: enough to tell data sets apart without reading them whole.
        some = np.linspace(0, len(self) - 1, min(len(self), 1000)).astype(int)
        digest.update(self.windows(some, np.zeros(len(some), int)).numpy().tobytes())
        return digest.hexdigest()[:16]


class _Picked(Sequence[Path]):
    """Some of other paths, in the order of their places."""

    def __init__(self, paths: Sequence[Path], places: np.ndarray):
        self._paths, self._places = paths, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, clip: Any) -> Any:
        if isinstance(clip, slice):
            return _Picked(self._paths, self._places[clip])
        return self._paths[self._places[clip]]


class _StoredPaths(Sequence[Path]):
    """Paths as they lie in a store's file, each made when it is asked for: a million of them take no time."""

    def __init__(self, file: Path, ends: np.ndarray):
        self._names, self._ends = np.memmap(file, np.uint8, mode="r"), ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, clip: Any) -> Any:
        if isinstance(clip, slice):
            return _Picked(self, np.arange(len(self))[clip])
        clip = range(len(self))[clip]
        begin = self._ends[clip - 1] if clip else 0
        return Path(os.fsdecode(self._names[begin : self._ends[clip]].tobytes()))


def load_clips(
    source: str | Path | Table | Clips | Sequence[np.ndarray],
    strict: bool = False,
    allow_outside: bool = False,
    progress: bool = True,
) -> Clips:
    """Open a source of clips, decoding it if that has not been done before.

    Args:
        source: see `slicer_lite.audio.table.read_table`; or the table itself; or a list of 1-D float arrays at 16
            kHz; clips that are open already are returned as they are. A store's own folder (`clips.store`) opens at
            once, with the labels that it was made with and without a look at the files it was made from.
        strict: raise an error at the first file that cannot be read, instead of skipping it with a warning.
        allow_outside: let paths in a CSV, and links, lead out of the data's folder.
        progress: show a bar while making sounds and decoding.

    Raises:
        FileNotFoundError, ValueError: see `read_table`; also when no file could be read.
    """
    if isinstance(source, Clips):
        return source
    if not isinstance(source, str | Path | Table):
        return Clips.from_waveforms(source)
    if not isinstance(source, Table) and _is_store(folder := Path(source).expanduser()):
        return _open(folder)[0]
    table = source if isinstance(source, Table) else read_table(source, allow_outside, progress)
    folder = cache_folder() / "stores" / _key(table)
    if not (folder / _INDEX).exists():
        _build(table, folder, strict, progress)
    clips, kept = _open(folder)
    lost = np.setdiff1d(np.arange(len(table)), kept)
    if any(isinstance(_decoded(table.paths[n], table.cuts.get(n)), np.ndarray) for n in lost):
        # Mended since, in a way that does not show in size and date: permissions, the network, a newer library.
        _build(table, folder, strict, progress)
        clips, kept = _open(folder)
    clips.rows, clips.split = (
        _rows(table, kept),
        table.split[kept],
    )  # which may have changed since it was made
    if clips.skipped:
        shown = "; ".join(f"{path}: {reason}" for path, reason in clips.skipped[:5])
        more = f"; and {len(clips.skipped) - 5} more" if len(clips.skipped) > 5 else ""
        message = (
            f"{len(clips.skipped)} of {len(table)} files could not be read and are left out. {shown}{more}"
        )
        if strict:
            raise ValueError(f"{message}. Mend or remove them, or leave out --strict.")
        warnings.warn(message, stacklevel=2)
    return clips


def _is_store(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (_INDEX, _WAVEFORMS))


def check_waveforms(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays as 1-D float32; see `Clips.from_waveforms` for what is refused."""
    checked = []
    for number, waveform in enumerate(waveforms):
        array = np.asarray(waveform)
        if array.ndim != 1 or not array.size or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(
                f"Clip {number}: expected a 1-D float array at 16 kHz with at least one sample, got shape "
                f"{array.shape} of {array.dtype}."
            )
        peak = np.abs(array).max()
        if not peak <= 1:  # NaN too
            raise ValueError(f"Clip {number}: samples must be finite and lie in [-1, 1]; its peak is {peak}.")
        checked.append(array.astype(np.float32))
    if not checked:
        raise ValueError("There are no clips: the list is empty.")
    return checked


def _to_int16(waveform: np.ndarray) -> np.ndarray:
    return np.round(np.clip(waveform, -1, 32767 / 32768) * 32768).astype("<i2")


def _lead(length: np.ndarray | int) -> np.ndarray:
    """Zeros before a clip that is shorter than a window."""
    return np.maximum(WINDOW - np.asarray(length), 0) // 2


def _padded(samples: np.ndarray) -> np.ndarray:
    """Zeros on both sides of a clip shorter than a window, so that a window of it is one slice."""
    missing = max(WINDOW - len(samples), 0)
    return np.pad(samples, (missing // 2, missing - missing // 2))


def _layout(lengths: np.ndarray) -> np.ndarray:
    """Where each padded clip begins in the store."""
    spans = np.maximum(lengths, WINDOW)
    return np.cumsum(spans) - spans


def _key(table: Table) -> str:
    """Names the store of exactly these files in this state."""
    digest = hashlib.sha256(str(_FORMAT).encode())
    for number, path in enumerate(table.paths):
        cut = f"\0{table.cuts[number]}" if number in table.cuts else ""
        try:
            state = path.stat()
            digest.update(
                f"{path}\0{state.st_size}\0{state.st_mtime_ns}{cut}\n".encode("utf-8", "surrogateescape")
            )
        except (OSError, ValueError):
            digest.update(f"{path}\0missing\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]


def _decoded(path: Path, cut: tuple[float, float] | None = None) -> np.ndarray | str:
    """The clip, or why there is none."""
    try:
        return _to_int16(decode(path, cut))
    except (ValueError, OSError) as error:
        return str(error)


def _decoded_ahead(table: Table) -> Iterator[np.ndarray | str]:
    """`_decoded` of each clip in turn, by all cores, a few clips ahead of the reader."""
    threads = os.cpu_count() or 1
    jobs: deque[Future[np.ndarray | str]] = deque()
    # libsndfile and PyTorch release the interpreter lock, so threads use all cores.
    with ThreadPoolExecutor(threads) as pool:
        for number, path in enumerate(table.paths):
            jobs.append(pool.submit(_decoded, path, table.cuts.get(number)))
            if len(jobs) == _AHEAD * threads:
                yield jobs.popleft().result()
        while jobs:
            yield jobs.popleft().result()


def _build(table: Table, folder: Path, strict: bool, progress: bool) -> None:
    """Write the store of a table into a temporary folder, then rename it into place."""
    with naming(f"{folder.parent} (SLICER_LITE_CACHE moves it)"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_UNFINISHED))
        (new := temporary / "new").mkdir()
    replaced = (folder / _INDEX).exists()
    kept: list[int] = []
    lengths: list[int] = []
    skipped: list[tuple[str, str]] = []
    try:
        bar = tqdm(total=len(table), desc="decoding", unit="clip", disable=not progress, leave=False)
        # A full disk is that of the cache.
        with naming(f"{folder.parent} (SLICER_LITE_CACHE moves it)"):
            with (new / _WAVEFORMS).open("wb") as file, bar:
                for number, result in enumerate(_decoded_ahead(table)):
                    bar.update()
                    if isinstance(result, str):
                        if strict:
                            raise ValueError(
                                f"{table.paths[number]}: {result}. Mend it or leave out --strict."
                            )
                        skipped.append((str(table.paths[number]), result))
                        continue
                    file.write(_padded(result).tobytes())
                    kept.append(number)
                    lengths.append(len(result))
                file.flush()
                os.fsync(file.fileno())
            if not kept:
                path, reason = skipped[0]
                raise ValueError(
                    f"None of the {len(table)} files could be read. The first: {path}: {reason}."
                )
            write_durably(new / _SKIPPED, json.dumps(skipped).encode())
            _write_index(new, table, np.array(kept), np.array(lengths))
        new.chmod(0o755)  # mkdtemp's folders are their owner's alone
        try:
            if replaced:
                folder.rename(temporary / "before")  # those who have it open go on reading it
            new.rename(folder)
        except OSError:
            # Another process has built the same store meanwhile: then its copy serves.
            if not (folder / _INDEX).exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(stores: Path) -> None:
    """Remove what processes that were killed while they decoded have left behind: what is older than a week."""
    for left in stores.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):  # another process may be sweeping, too
            # The folder's own date stays while files in it grow.
            if time.time() - max(part.stat().st_mtime for part in (left, *left.iterdir())) > 7 * 24 * 3600:
                shutil.rmtree(left)


def _write_index(folder: Path, table: Table, kept: np.ndarray, lengths: np.ndarray) -> None:
    """Write all that is known of the clips kept of a table, such that a million of them are read in a moment."""
    names = [os.fsencode(table.paths[number]) for number in kept]
    write_durably(folder / _PATHS, b"".join(names))
    rows = _rows(table, kept)
    texts = {**{name: rows[name] for name in _TEXTS}, "split of clip": table.split[kept]}
    index: dict[str, Any] = {"kept": kept, "lengths": lengths, "clip": rows["clip"]}
    index["path ends"] = np.cumsum([len(name) for name in names])
    # Most texts are repeated: each is written once, and then only its number.
    for name, values in texts.items():
        codes, known = pd.factorize(np.asarray(values, dtype=object))
        index |= {f"{name} codes": codes.astype(np.int32), f"{name} values": known.astype(str)}
    write_durably(folder / _INDEX, lambda file: np.savez(file, **index))


def _open(folder: Path) -> tuple[Clips, np.ndarray]:
    """The clips of a store, and which of the table's they are."""
    try:
        # NumPy leaves a file that it has opened itself open if it is damaged.
        with (folder / _INDEX).open("rb") as file, np.load(file, allow_pickle=False) as index:
            kept, lengths = index["kept"], index["lengths"]
            texts = {
                name: index[f"{name} values"].astype(object)[index[f"{name} codes"]]
                for name in (*_TEXTS, "split of clip")
            }
            rows = pd.DataFrame(
                {"clip": index["clip"], **{name: pd.Series(texts[name], dtype=object) for name in _TEXTS}}
            )
            paths = _StoredPaths(folder / _PATHS, index["path ends"])
        skipped = [(path, reason) for path, reason in json.loads((folder / _SKIPPED).read_text())]
        samples = np.memmap(folder / _WAVEFORMS, dtype="<i2", mode="r")
        if len(samples) != int(np.maximum(lengths, WINDOW).sum()):
            raise ValueError(f"it holds {len(samples):,} samples, not as many as its index says")
    except (ValueError, OSError, EOFError, KeyError, IndexError, BadZipFile) as error:
        made_here = folder.parent == cache_folder() / "stores"
        remedy = (
            "delete that folder, and it will be made again" if made_here else "open what it was made from"
        )
        raise ValueError(f"The store {folder} is damaged ({error}): {remedy}.") from None
    split = texts["split of clip"]
    return Clips(samples, _layout(lengths), lengths, paths, rows, split, skipped, folder), kept


def _rows(table: Table, kept: np.ndarray) -> pd.DataFrame:
    """The table's rows of the clips that were kept, by their new numbers."""
    place = np.full(len(table), -1)
    place[kept] = np.arange(len(kept))
    clip = place[table.labels["clip"].to_numpy(dtype=int)]
    return table.labels.assign(clip=clip)[clip >= 0].reset_index(drop=True)
