"""From clips of any length to one embedding each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from slicer_lite.audio.store import Clips, Source, load_clips, told_apart
from slicer_lite.base.device import keep_freed_blocks
from slicer_lite.base.modes import evaluating
from slicer_lite.config import WINDOW, Config
from slicer_lite.method.encoder import FrameEncoder
from slicer_lite.method.logmel import LogMel
from slicer_lite.method.views import fit_views

BATCH = 256  # windows embedded at once
Feature = Callable[[Tensor], Tensor]  # of log-mels: (B, 1, 64, 96) -> (B, D)


def window_starts(samples: int) -> np.ndarray:
    """Where the windows of a clip begin, in samples: the one window rule everywhere.

    `max(1, floor(duration / 0.95 s))` windows spaced evenly from the clip's start to its end; a clip shorter
    than a window is one window, padded with zeros on both sides.
    """
    count = max(1, samples // WINDOW)
    gaps = max(count - 1, 1)
    return (2 * np.arange(count) * max(samples - WINDOW, 0) + gaps) // (2 * gaps)  # rounded


def embed(
    encoder: FrameEncoder,
    clips: Source,
    batch_size: int = BATCH,
    progress: bool = False,
) -> np.ndarray:
    """Embed clips with a frozen encoder, on the device that it is on.

    Each window's log-mel is standardised with the encoder's own statistics; frames are pooled (maximum plus
    mean); a clip's embedding is the mean over its windows.

    Args:
        encoder: an `Encoder`, or another network by `slicer_lite.as_encoder`; it is put in evaluation mode for the
            time of the call.
        clips: open clips, any source that `load_clips` takes (a folder, a CSV file, a DataFrame, a list of paths), or
            float arrays at 16 kHz, of any lengths: a list of `(S,)` or `(S, channels)`, or one of them, as
            `soundfile.read` gives it. Channels are averaged and a peak above 1 is scaled down to 1, as in files.
        batch_size: windows at once.
        progress: show a bar.

    Returns:
        `(N, dim)` float32.

    Raises:
        ValueError: no encoder, or clips that cannot be sound; see `load_clips`.
    """
    if not isinstance(encoder, FrameEncoder):
        other = " slicer_lite.as_encoder(…) makes one of it." if isinstance(encoder, nn.Module) else ""
        raise ValueError(
            f"encoder: expected an Encoder, got a {type(encoder).__name__}: give what slicer_lite.load_encoder(…) or "
            f"slicer_lite.load(…).encoder is.{other}"
        )
    with evaluating(encoder):
        return mean_over_windows(embedding_by(encoder), clips, encoder.mean.device, batch_size, progress)


class Embedder(nn.Module):
    """`embed` as one module of tensor operations: what is exported and shared.

    Shape: `(B, S)` float waveforms in [-1, 1] at 16 kHz, of any length -> `(B, dim)`. All windows of a batch are
    in memory at once: for long clips `embed` is the frugal one.
    """

    def __init__(self, encoder: FrameEncoder):
        super().__init__()
        self.encoder = encoder
        self.logmel = LogMel()

    def frames(self, waveform: Tensor) -> Tensor:
        """Frame embeddings of each window: `(B, S)` -> `(B, windows, T', dim)`."""
        batch, samples = waveform.shape
        # The rule of `window_starts`, written so that one exported program serves every length: were the count
        # of windows a function of the shape, torch.export would take one window and several for two programs.
        count: Any = (torch.tensor(samples) // WINDOW).clamp(min=1).item()
        torch._check(count >= 1)
        gaps, last = torch.sym_max(count - 1, 1), torch.sym_max(samples - WINDOW, 0)
        starts = (2 * torch.arange(count, device=waveform.device) * last + gaps) // (2 * gaps)
        before = torch.sym_max(WINDOW - samples, 0) // 2  # zeros before a clip that is shorter than a window
        place = starts[:, None] + torch.arange(WINDOW, device=waveform.device) - before
        inside = (place >= 0) & (place < samples)
        windows = waveform[:, place.clamp(0, samples - 1)] * inside  # (B, windows, 15200)
        lms = self.logmel.windows(windows.reshape(batch * count, WINDOW))
        return self.encoder(self.encoder.standardise(lms)).unflatten(0, (batch, count))

    def forward(self, waveform: Tensor) -> Tensor:
        return self.encoder.pool(self.frames(waveform)).mean(1)  # the mean over windows


def set_statistics(encoder: FrameEncoder, clips: Clips) -> None:
    """Give an encoder the mean and deviation of the clips' log-mels: for one that has been trained elsewhere."""
    views = fit_views(Config(mixing="none"), clips, encoder.mean.device)
    encoder.mean.copy_(views.mean)
    encoder.deviation.copy_(views.deviation)


def embedding_by(encoder: FrameEncoder) -> Feature:
    """The embedding of single windows, from log-mels that are not standardised yet: `(B, dim)`."""
    return lambda lms: encoder.pool(encoder(encoder.standardise(lms)))


def mel_statistics(clips: Clips | Sequence[np.ndarray], progress: bool = False) -> np.ndarray:
    """The simplest baseline: mean and deviation over time of each log-mel band, averaged over windows.

    Returns:
        `(N, 128)` float32: 64 means, then 64 deviations.
    """
    return mean_over_windows(mel_statistics_of, clips, torch.device("cpu"), BATCH, progress)


def mel_statistics_of(lms: Tensor) -> Tensor:
    """Mean and deviation over time of each band of single windows: `(B, 128)`."""
    bands = lms.squeeze(1)  # (B, F, T)
    return torch.cat([bands.mean(-1), bands.std(-1, correction=0)], dim=1)


def mean_over_windows(
    feature: Feature,
    clips: Source,
    device: torch.device,
    batch_size: int = BATCH,
    progress: bool = False,
) -> np.ndarray:
    """Apply a feature to every window and average within clips."""
    if not isinstance(clips, Clips):
        resolved = told_apart(clips)
        clips = resolved if isinstance(resolved, list) else load_clips(resolved)
    if not len(clips):
        raise ValueError("There are no clips to embed.")
    total: np.ndarray | None = None
    windows = np.zeros((len(clips), 1))
    for owner, features in over_windows(feature, clips, device, batch_size, progress):
        if total is None:
            total = np.zeros((len(clips), features.shape[1]), dtype=np.float64)
        np.add.at(total, owner, features)
        np.add.at(windows, owner, 1)
    assert total is not None  # there is at least one clip, and each has at least one window
    return (total / windows).astype(np.float32)


@torch.no_grad()
def over_windows(
    feature: Feature,
    clips: Clips | Sequence[np.ndarray],
    device: torch.device,
    batch_size: int = BATCH,
    progress: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Apply a feature to every window of every clip, in order.

    Windows of all clips are batched together, so a mixture of lengths costs no more than equal ones.

    Yields:
        Which clip each window is of, `(B,)`, and its features, `(B, D)` float32.
    """
    owner, starts = windows_of(clips)
    logmel = LogMel().to(device)
    bar = tqdm(total=len(owner), desc="embedding", unit="window", disable=not progress, leave=False)
    with bar, keep_freed_blocks(device):
        for at, waveform in enumerate(_batches(clips, owner, starts, batch_size)):
            batch = slice(at * batch_size, at * batch_size + len(waveform))
            yield owner[batch], feature(logmel(waveform.to(device))).float().cpu().numpy()
            bar.update(len(waveform))


def windows_of(clips: Clips | Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For every window, in order: which clip it is of, and where in it it begins, in samples; `(W,)` each."""
    lengths = clips.lengths.tolist() if isinstance(clips, Clips) else [len(clip) for clip in clips]
    starts = [window_starts(length) for length in lengths]
    return np.repeat(np.arange(len(starts)), [len(s) for s in starts]), np.concatenate(starts)


def _batches(
    clips: Clips | Sequence[np.ndarray], owner: np.ndarray, starts: np.ndarray, batch_size: int
) -> Iterator[Tensor]:
    """Float windows `(B, 15200)` in order."""
    for begin in range(0, len(owner), batch_size):
        batch = slice(begin, begin + batch_size)
        if isinstance(clips, Clips):
            yield clips.windows(owner[batch], starts[batch]).float() / 32768
        else:
            cut = [clips[i][s : s + WINDOW] for i, s in zip(owner[batch], starts[batch], strict=True)]
            missing = [WINDOW - len(c) for c in cut]
            padded = [np.pad(c, (m // 2, m - m // 2)) for c, m in zip(cut, missing, strict=True)]
            yield torch.from_numpy(np.stack(padded))
