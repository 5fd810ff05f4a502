"""Features of every window of a data set, computed once and kept on disk; probes read them from there."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import write_array_header_2_0

from slicer_lite.audio.store import Clips
from slicer_lite.audio.table import cache_folder
from slicer_lite.base.device import choose_device
from slicer_lite.base.files import UNFINISHED, naming, write_durably
from slicer_lite.base.randomness import generator
from slicer_lite.config import FRAMES, N_MELS
from slicer_lite.explore.embed import BATCH, embedding_by, mel_statistics_of, over_windows, windows_of
from slicer_lite.method.encoder import Encoder, FrameEncoder

_FORMAT = 1  # part of the key: raise it when the files' meaning changes


@dataclass(frozen=True)
class Features:
    """What an encoder says of every window.

    Attributes:
        windows: `(W, D)` float32, memory-mapped: they may be more than the memory holds.
        owner: `(W,)` which clip each window is of, in rising order.
    """

    windows: np.ndarray
    owner: np.ndarray

    def of_clips(self) -> np.ndarray:
        """`(N, D)` float32: the mean over each clip's windows."""
        first = np.flatnonzero(np.diff(self.owner, prepend=-1))  # each clip's first window
        ends = np.append(first[1:], len(self.owner))
        means = np.empty((len(first), self.windows.shape[1]), np.float32)
        for clip, (begin, end) in enumerate(zip(first, ends, strict=True)):
            means[clip] = self.windows[begin:end].mean(0, dtype=np.float64)
        return means


def window_features(
    encoder: FrameEncoder | None, clips: Clips, data: str = "", device: str = "cpu", progress: bool = False
) -> Features:
    """The features of every window, computed or read from the cache (`slicer_lite.audio.table.cache_folder()`).

    Args:
        encoder: in evaluation mode; None gives mel statistics.
        clips: any.
        data: `data_hash(clips)`, if it is known already.
        device: that the encoder runs on.
        progress: show a bar.

    Raises:
        OSError: the disk is full, or the cache cannot be written.
    """
    owner, _ = windows_of(clips)
    where = choose_device(device if encoder is not None else "cpu")
    who = "mel statistics" if encoder is None else weights_hash(encoder.to(where))
    if encoder is not None and not isinstance(encoder, Encoder):
        who += _answer_hash(encoder)
    key = hashlib.sha256(f"{_FORMAT}\0{who}\0{data or data_hash(clips)}".encode()).hexdigest()[:24]
    path = cache_folder() / "features" / f"{key}.npy"
    windows = _read(path, len(owner))
    if windows is None:
        _compute(encoder, clips, len(owner), path, where, progress)
        windows = np.load(path, mmap_mode="r", allow_pickle=False)
    return Features(windows, owner)


def _read(path: Path, count: int) -> np.ndarray | None:
    """The features in a file; None if it is not there or damaged, by a power cut for instance."""
    try:
        windows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return windows if windows.ndim == 2 and len(windows) == count else None


def weights_hash(encoder: FrameEncoder) -> str:
    """SHA-256 of an encoder's weights, buffers and input statistics."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        # As bytes: NumPy has no bfloat16.
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _answer_hash(encoder: FrameEncoder) -> str:
    """SHA-256 of what an encoder says of noise: weights do not tell which code, perhaps edited since, they are of."""
    noise = torch.randn(2, 1, N_MELS, FRAMES, generator=generator(0, 0, "answer"))
    answer = encoder.pool(encoder(noise.to(encoder.mean.device))).float().cpu().numpy()
    return hashlib.sha256(answer.tobytes()).hexdigest()


def data_hash(clips: Clips) -> str:
    """SHA-256 of every window of every clip, and of which clip it is: all that features depend on."""
    owner, starts = windows_of(clips)
    digest = hashlib.sha256(owner.tobytes())
    for begin in range(0, len(owner), BATCH):
        batch = slice(begin, begin + BATCH)
        digest.update(clips.windows(owner[batch], starts[batch]).numpy().tobytes())
    return digest.hexdigest()


def rows_hash(rows: pd.DataFrame) -> str:
    """SHA-256 of the rows of one task, in any order: what is learnt and tested beside the features."""
    columns = ["clip", "label", "split", "group"]
    return hashlib.sha256(json.dumps(sorted(rows[columns].to_numpy().tolist())).encode()).hexdigest()


def _compute(
    encoder: FrameEncoder | None, clips: Clips, count: int, path: Path, device: torch.device, progress: bool
) -> None:
    """Write `(count, D)` features to a temporary name, then give the file its own."""
    with naming(f"{path.parent} (SLICER_LITE_CACHE moves it)"):
        path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    feature = mel_statistics_of if encoder is None else embedding_by(encoder)

    # Written, not mapped: on a full disk a write fails with an error, a mapped page with a crash.
    def write(file: BinaryIO) -> None:
        for _, values in over_windows(feature, clips, device, progress=progress):
            if not file.tell():
                shape = (count, values.shape[1])
                about = {"descr": "<f4", "fortran_order": False, "shape": shape}
                write_array_header_2_0(file, about)
            file.write(values.astype("<f4").tobytes())

    with naming(f"{path} (SLICER_LITE_CACHE moves it)"):
        write_durably(path, write)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed have left half-written: what nothing was added to for a week."""
    for left in folder.glob(f"*{UNFINISHED}"):
        with suppress(OSError):  # another process may be sweeping, too
            if time.time() - left.stat().st_mtime > 7 * 24 * 3600:
                left.unlink()
