"""Decode once: every clip as 16 kHz mono int16 in one memory-mapped file, so that any window is one slice."""

from __future__ import annotations

import copy
import hashlib
import json
import operator
import os
import shutil
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast, overload
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from slicer_lite.audio.decode import PARTLY, decode_into, pyav
from slicer_lite.audio.table import Table, cache_folder, read_table
from slicer_lite.base.files import naming, write_durably, write_json
from slicer_lite.base.free_memory import available
from slicer_lite.config import SAMPLE_RATE, WINDOW

_FORMAT = 3  # part of the key: raise it when the files' meaning changes
_AHEAD = 4  # files for each thread that may be decoded before they are written: bounds the memory
_IN_MEMORY = 2**24  # bytes of a decoded file, 4.4 minutes, that wait in memory; more wait on the cache's disk
_BESIDE = 2**26  # bytes that a thread takes beside them: blocks, resampler, and what the libraries keep
_INDEX, _WAVEFORMS, _PATHS, _SKIPPED = "index.npz", "waveforms.i16", "paths.bin", "skipped.json"
_STATE = "files.json"  # of the files it was made from, as far as their sizes and dates do not say
_SAMPLE, _SAMPLES = 4096, 8  # bytes of a file in one piece, and pieces, that stand for all of it
_INTEGERS = 100.0  # a peak that no sound has whose full scale is 1: it is 40 dB above
_MOST_CHANNELS = 32
_REMARKS = "remarks.json"
_UNFINISHED = "unfinished-"
Source: TypeAlias = "str | Path | Table | pd.DataFrame | Clips | Iterable[str | Path] | Iterable[np.ndarray]"
_TEXTS = ("task", "label", "split", "group")  # columns of the rows


class Clips:
    """Clips that can be heard and sliced: waveforms, and the labels that they carry.

    `clips[i]` is clip i's waveform, `(S,)` float32 in [-1, 1] at 16 kHz; `clips[3:10]`, `clips[mask]` and
    `clips[places]` are some of them as `Clips`; `len(clips)` is their number.

    Attributes:
        paths: `(N,)` where each clip came from (empty names for clips given as arrays).
        lengths: `(N,)` number of samples of each clip.
        split: `(N,)` train, validation, test or nothing.
        rows: one row for each label that a clip carries: `clip`, `task`, `label`, `split`, `group`.
        skipped: `(path, reason)` of files that could not be read.
        remarks: `(path, remark)` of files that are read otherwise than others, such as without a damaged part.
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
        remarks: Sequence[tuple[str, str]] = (),
    ):
        self._samples, self._first, self.lengths, self.store = samples, first, lengths, store
        self.paths, self.rows, self.split, self.skipped = paths, rows, split, tuple(skipped)
        self.remarks = tuple(remarks)
        self._resident: torch.Tensor | None = None  # the samples once more, on a device

    @classmethod
    def from_waveforms(cls, waveforms: Iterable[np.ndarray]) -> Clips:
        """Clips from float arrays at 16 kHz, whose full scale is 1.

        Args:
            waveforms: of each clip `(S,)`, or `(S, channels)`, which are averaged; or the pair of such an array and
                its rate, as `soundfile.read` gives it. A peak above 1 is scaled down to 1, as in files.

        Raises:
            ValueError: no arrays, or one that is empty, of another shape, not finite, of integers or on their scale,
                or at another rate.
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

    @overload
    def __getitem__(self, clip: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, clip: slice | Sequence[int] | np.ndarray) -> Clips: ...
    def __getitem__(self, clip: Any) -> Any:
        if isinstance(clip, slice):
            return self.subset(np.arange(len(self))[clip])
        if np.ndim(clip):
            return self.subset(clip)
        try:
            clip = operator.index(clip)
        except TypeError:
            raise IndexError(
                f"clips[{clip!r}]: give a whole number, a slice, a list of places or a mask."
            ) from None
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
        copied = copy.copy(self)
        copied._resident = torch.from_numpy(np.array(self._samples)).to(device)
        return copied

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
        name = os.fsencode(self.paths[clip].name).decode(errors="replace")  # pages hold UTF-8 only
        return ", ".join(labels) or name or f"clip {clip}"

    def subset(self, which: Sequence[int] | np.ndarray) -> Clips:
        """The clips at the given places, which may be repeated, or where a `(N,)` bool array is True.

        Raises:
            IndexError: places that are not there or no whole numbers, or a bool array of another length.
        """
        places = np.asarray(which)
        if not places.size and places.dtype != bool:
            places = places.astype(int)  # an empty list's values have no type of their own
        if (
            places.ndim != 1
            or places.dtype.kind not in "biu"
            or (places.dtype == bool and len(places) != len(self))
        ):
            raise IndexError(
                f"Of {len(self)} clips some are chosen by a list of places, whole numbers, or by a mask of "
                f"{len(self)} bools; got shape {places.shape} of {places.dtype}."
            )
        if places.dtype != bool and (lost := places[(places < -len(self)) | (places >= len(self))]).size:
            raise IndexError(f"There is no clip {lost[0]}: there are {len(self)}.")
        chosen = np.arange(len(self))[places]
        # A row for each label of each clip that is taken: its places stand side by side once they are sorted.
        order = np.argsort(chosen, kind="stable")
        clip = self.rows["clip"].to_numpy(int)
        first, end = (np.searchsorted(chosen[order], clip, side) for side in ("left", "right"))
        taken = np.repeat(np.arange(len(clip)), end - first)
        nth = np.arange(len(taken)) - np.searchsorted(taken, taken)
        rows = self.rows.iloc[taken].assign(clip=order[first[taken] + nth]).reset_index(drop=True)
        return Clips(
            self._samples,
            self._first[chosen],
            self.lengths[chosen],
            _Picked(self.paths, chosen),
            rows,
            self.split[chosen],
        )

    def for_pretraining(self) -> Clips:
        """The clips that no task validates or tests on. Labels play no part in pre-training."""
        return self.subset(np.isin(self.split, ["train", ""]))

    def fingerprint(self) -> str:
        """A short hash of what is in the clips, to tell one data set from another."""
        digest = hashlib.sha256(np.ascontiguousarray(self.lengths).tobytes())
        # The first window of up to 1,000 clips: enough to tell data sets apart without reading them whole.
        sample = np.linspace(0, len(self) - 1, min(len(self), 1000)).astype(int)
        digest.update(self.windows(sample, np.zeros(len(sample), int)).numpy().tobytes())
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
    source: Source,
    strict: bool = False,
    allow_outside: bool = False,
    progress: bool = True,
) -> Clips:
    """Open a source of clips, decoding it if that has not been done before.

    Args:
        source: see `slicer_lite.audio.table.read_table` (a folder, a CSV file, a DataFrame, a list of paths); or the
            table itself; or float arrays at 16 kHz, see `Clips.from_waveforms`; clips that are open already are
            returned as they are. A store's own folder (`clips.store`) opens at once, with the labels that it was made
            with and without a look at the files it was made from.
        strict: raise an error at the first file that cannot be read, instead of skipping it with a warning.
        allow_outside: let paths in a CSV, and links, lead out of the data's folder.
        progress: show a bar while making sounds and decoding.

    Raises:
        FileNotFoundError, ValueError: see `read_table`; also when no file could be read, or for anything else.
    """
    if isinstance(source, Clips):
        return source
    if isinstance(resolved := told_apart(source), list):
        return Clips.from_waveforms(resolved)
    if (
        isinstance(resolved, str | Path)
        and resolved != "sounds"
        and _is_store(folder := Path(resolved).expanduser())
    ):
        return _open(folder)[0]
    table = resolved if isinstance(resolved, Table) else read_table(resolved, allow_outside, progress)
    folder = cache_folder() / "stores" / _key(table)
    if not (folder / _INDEX).exists() or _replaced(table, folder):
        _build(table, folder, strict, progress)
    clips, kept = _open(folder)
    lost = np.setdiff1d(np.arange(len(table)), kept)
    more_is_read = any(remark == PARTLY for _, remark in clips.remarks) and pyav() is not None
    if more_is_read or any(_can_be_decoded(table.paths[n], table.cuts.get(n)) for n in lost):
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
    for remark in dict.fromkeys(remark for _, remark in clips.remarks):
        names = [Path(path).name for path, other in clips.remarks if other == remark]
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        warnings.warn(f"{len(names)} of {len(table)} files: {remark}. {shown}", stacklevel=2)
    return clips


def _is_store(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (_INDEX, _WAVEFORMS))


def told_apart(source: Source) -> str | Path | Table | list[np.ndarray]:
    """What a source of clips is: a path, a table, or waveforms, which are checked.

    Raises:
        ValueError: none of these; says what to give.
    """
    if isinstance(source, str | Table):
        return source
    if isinstance(source, os.PathLike):
        return Path(source)
    if isinstance(source, pd.DataFrame):
        return read_table(source)
    if isinstance(source, Mapping | Set | bytes) or not isinstance(source, Iterable):
        hint = " Give list(….values())." if isinstance(source, Mapping) else ""
        raise ValueError(
            "clips: expected a folder, a CSV file, a DataFrame, a list of paths or of float arrays, or Clips; got "
            f"a {type(source).__name__}.{hint}"
        )
    each: list[Any] = [source] if _is_one(source) else list(source)
    if each and all(isinstance(one, str | os.PathLike) for one in each):
        return read_table(each)
    return check_waveforms(each)


def _is_one(source: Any) -> bool:
    """Whether something is one waveform, as `soundfile.read` gives it, rather than a list of them."""
    if _is_pair(source):
        return True
    if not isinstance(source, torch.Tensor) and not (
        isinstance(source, np.ndarray) and np.issubdtype(source.dtype, np.number)
    ):
        return False
    # Rows of a few samples are no clips: these are soundfile's channels.
    return source.ndim == 1 or (source.ndim == 2 and source.shape[1] <= _MOST_CHANNELS < source.shape[0])


def _is_pair(value: Any) -> bool:
    """Whether something is samples and their rate."""
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and np.ndim(value[0]) > 0
        and isinstance(value[1], int | float)
    )


def check_waveforms(waveforms: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The clips as `(S,)` float32 arrays in [-1, 1]; see `Clips.from_waveforms` for what is refused."""
    checked = [_waveform(f"Clip {number}", waveform) for number, waveform in enumerate(waveforms)]
    if not checked:
        raise ValueError("There are no clips: the list is empty.")
    return checked


def _waveform(name: str, samples: Any) -> np.ndarray:
    if _is_pair(samples):
        samples, rate = samples
        if rate != SAMPLE_RATE:
            raise ValueError(
                f"{name} is at {rate} Hz: resample it to {SAMPLE_RATE:,} Hz, or give its file's path instead."
            )
    if isinstance(samples, torch.Tensor):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.dtype == torch.bfloat16 else samples).numpy()
    expected = f"{name}: expected a 1-D float array at 16 kHz with at least one sample"
    try:
        array = np.asarray(samples)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{expected}, got a {type(samples).__name__} of unequal parts.") from None
    if array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.ndim == 2 and array.shape[1] <= min(_MOST_CHANNELS, array.shape[0]):
        array = array.mean(1) if np.issubdtype(array.dtype, np.floating) else array[:, 0]
    if array.ndim != 1 or not array.size or not np.issubdtype(array.dtype, np.floating):
        got = (
            f"shape {array.shape} of {array.dtype}"
            if array.dtype.kind in "biufc"
            else f"a {type(samples).__name__}"
        )
        hint = ""
        if array.ndim == 2:
            hint = " Channels come last, as from soundfile: turn (channels, samples) by .T."
        elif array.ndim == 0 and array.dtype.kind == "f":
            hint = " A single waveform goes into a list: [waveform]."
        elif array.ndim == 1 and array.dtype.kind in "iu":
            hint = " Integers have to be divided by their full scale, 32768 for int16."
        raise ValueError(f"{expected}, got {got}.{hint}")
    peak = np.abs(array).max()
    if not np.isfinite(peak):
        raise ValueError(f"{name}: samples must be finite; its peak is {peak}.")
    if peak > _INTEGERS or (peak > 1 and (array == np.round(array)).all()):
        raise ValueError(
            f"{name}: its peak is {peak:g}, on the scale of integers: divide it by their full scale, 32768 for "
            "16 bits, so that full scale is 1."
        )
    return (array / max(1.0, float(peak))).astype(np.float32)


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
    """Names the store of exactly these files of these sizes and dates; `_state` tells what these do not."""
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


def _changed(table: Table) -> str:
    """A hash of when the disk itself noted the last change of each file (ctime), which no program can set.

    On Windows it is when the file was made.
    """
    digest = hashlib.sha256()
    for path in dict.fromkeys(table.paths):
        with suppress(OSError, ValueError):
            digest.update(f"{path.stat().st_ctime_ns}\n".encode())
    return digest.hexdigest()


def _sampled(table: Table) -> str:
    """A hash of a sample of each file's bytes: of all of a small file."""
    digest = hashlib.sha256()
    for path in dict.fromkeys(table.paths):
        with suppress(OSError, ValueError):
            size = path.stat().st_size
            if not path.is_file():  # a pipe would be waited for
                continue
            with path.open("rb", buffering=0) as file:
                if size <= _SAMPLE * _SAMPLES:
                    digest.update(file.read())
                    continue
                for start in np.linspace(0, size - _SAMPLE, _SAMPLES, dtype=int).tolist():
                    file.seek(start)
                    digest.update(file.read(_SAMPLE))
        digest.update(b"\n")
    return digest.hexdigest()


def _replaced(table: Table, folder: Path) -> bool:
    """Whether the files have other bytes than when the store was made, though their sizes and dates are the same.

    Asking for a file's dates takes some 5 microseconds, reading a sample of its bytes 100 (on one SSD, files of
    64 kB): so bytes are read only if a file was touched. Copies and restored files are then known again.
    """
    changed = _changed(table)
    try:
        before = json.loads((folder / _STATE).read_text())
        if before["changed"] == changed:
            return False
        if before["sample"] != _sampled(table):
            return True
    except (OSError, ValueError, KeyError, TypeError):
        return True
    with suppress(OSError):  # a cache that others share may be read only
        write_json(folder / _STATE, {**before, "changed": changed})
    return False


@dataclass
class _Sound:
    """A decoded file: 16 kHz mono float32, all of it to be divided by `scale`."""

    file: BinaryIO
    scale: float
    remarks: list[str]

    def append_to(self, store: BinaryIO) -> int:
        """Write it into a store, as int16 and padded; returns its number of samples."""
        with self.file:
            self.file.seek(0, os.SEEK_END)
            length = self.file.tell() // 4
            missing = max(WINDOW - length, 0)
            store.write(bytes(2 * (missing // 2)))
            self.file.seek(0)
            while part := self.file.read(2**22):
                store.write(_to_int16(np.frombuffer(part, "<f4") / np.float32(self.scale)).tobytes())
            store.write(bytes(2 * (missing - missing // 2)))
        return length


def _decoded(path: Path, cut: tuple[float, float] | None = None) -> _Sound | str:
    """The clip, or why there is none."""
    # Its own errors, such as of a full disk, are the cache's and no reason to skip the clip.
    spool = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+b", dir=str(cache_folder() / "stores"))  # noqa: SIM115
    file = cast(BinaryIO, spool)
    try:
        return _Sound(file, *decode_into(file, path, cut))
    except BaseException as error:
        file.close()
        if isinstance(error, ValueError):
            return str(error)
        if isinstance(error, RuntimeError):  # of a library: no message without the file's name
            raise RuntimeError(f"{path}: {error}") from error
        raise


def _can_be_decoded(path: Path, cut: tuple[float, float] | None) -> bool:
    sound = _decoded(path, cut)
    if isinstance(sound, str):
        return False
    sound.file.close()
    return True


def _forget(job: Future[_Sound | str]) -> None:
    if not job.exception() and not isinstance(sound := job.result(), str):
        sound.file.close()


def _threads() -> int:
    """One for each core, unless the memory is too small for what each may take."""
    cores = os.cpu_count() or 1
    room = available(torch.device("cpu"))
    # Of what is free, half: others need some, too.
    return cores if room is None else max(1, min(cores, room // 2 // (_BESIDE + (_AHEAD + 1) * _IN_MEMORY)))


def _decoded_ahead(table: Table) -> Generator[_Sound | str, None, None]:
    """`_decoded` of each clip in turn, by all cores, a few clips ahead of the reader."""
    threads = _threads()
    jobs: deque[Future[_Sound | str]] = deque()
    # libsndfile, FFmpeg's libraries and libsoxr release the interpreter lock, so threads use all cores.
    with ThreadPoolExecutor(threads) as pool:
        try:
            for number, path in enumerate(table.paths):
                jobs.append(pool.submit(_decoded, path, table.cuts.get(number)))
                if len(jobs) == _AHEAD * threads:
                    yield jobs.popleft().result()
            while jobs:
                yield jobs.popleft().result()
        finally:  # what nobody waits for any more
            for job in jobs:
                if not job.cancel():
                    job.add_done_callback(_forget)


def _build(table: Table, folder: Path, strict: bool, progress: bool) -> None:
    """Write the store of a table into a temporary folder, then rename it into place."""
    with naming(f"{folder.parent} (SLICER_LITE_CACHE moves it)"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_UNFINISHED))
        (new := temporary / "new").mkdir()
    replaced = (folder / _INDEX).exists()
    state = {
        "changed": _changed(table),
        "sample": _sampled(table),
    }  # before: what changes meanwhile is noticed
    kept: list[int] = []
    lengths: list[int] = []
    skipped: list[tuple[str, str]] = []
    remarks: list[tuple[str, str]] = []
    try:
        bar = tqdm(total=len(table), desc="decoding", unit="clip", disable=not progress, leave=False)
        # A full disk is that of the cache.
        with naming(f"{folder.parent} (SLICER_LITE_CACHE moves it)"):
            with (new / _WAVEFORMS).open("wb") as file, bar, closing(_decoded_ahead(table)) as results:
                for number, result in enumerate(results):
                    bar.update()
                    if isinstance(result, str):
                        if strict:
                            raise ValueError(
                                f"{table.paths[number]}: {result}. Mend it or leave out --strict."
                            )
                        skipped.append((str(table.paths[number]), result))
                        continue
                    lengths.append(result.append_to(file))
                    kept.append(number)
                    remarks += [(str(table.paths[number]), remark) for remark in result.remarks]
                file.flush()
                os.fsync(file.fileno())
            if not kept:
                path, reason = skipped[0]
                raise ValueError(
                    f"None of the {len(table)} files could be read. The first: {path}: {reason}."
                )
            write_durably(new / _SKIPPED, json.dumps(skipped).encode())
            write_json(new / _STATE, state)
            write_durably(new / _REMARKS, json.dumps(remarks).encode())
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
        codes, uniques = pd.factorize(np.asarray(values, dtype=object))
        index |= {f"{name} codes": codes.astype(np.int32), f"{name} values": uniques.astype(str)}
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
        remarks = []
        if (folder / _REMARKS).exists():  # not of an older version's store, opened by its own path
            remarks = [(path, remark) for path, remark in json.loads((folder / _REMARKS).read_text())]
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
    return Clips(samples, _layout(lengths), lengths, paths, rows, split, skipped, folder, remarks), kept


def _rows(table: Table, kept: np.ndarray) -> pd.DataFrame:
    """The table's rows of the clips that were kept, by their new numbers."""
    place = np.full(len(table), -1)
    place[kept] = np.arange(len(kept))
    clip = place[table.labels["clip"].to_numpy(dtype=int)]
    return table.labels.assign(clip=clip)[clip >= 0].reset_index(drop=True)
