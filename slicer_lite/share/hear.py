"""The HEAR-2021 common interface (hearbenchmark.com/hear-api.html) over the same encoder.

heareval, HEAR's evaluation kit, takes the name of this module and a path of weights:

    python -m heareval.embeddings.runner slicer_lite.share.hear --model runs/first/weights.safetensors
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from slicer_lite.audio.store import check_waveforms
from slicer_lite.base.modes import evaluating
from slicer_lite.config import FRAMES, HOP, N_MELS, SAMPLE_RATE, WINDOW
from slicer_lite.explore.embed import BATCH, embed
from slicer_lite.method.encoder import FrameEncoder
from slicer_lite.method.logmel import LogMel
from slicer_lite.share.weights import SHIPPED, SUFFIX, load_encoder

_APART = 5  # spectrogram frames, 50 ms: HEAR recommends at most that between timestamps


class HearModel(nn.Module):
    """An encoder and its spectrogram, with the three attributes that HEAR reads."""

    sample_rate: int = SAMPLE_RATE

    def __init__(self, encoder: FrameEncoder):
        super().__init__()
        self.encoder = encoder
        self.logmel = LogMel()
        self.scene_embedding_size: int = encoder.dim
        self.timestamp_embedding_size: int = encoder.dim

    @cached_property
    @torch.no_grad()
    def span(self) -> int:
        """Spectrogram frames of 10 ms that one embedding stands for: 8 of AudioNTT.

        Raises:
            ValueError: that is no whole number, the same for all lengths.
        """
        blank = torch.zeros(1, 1, N_MELS, 2 * FRAMES, device=self.encoder.mean.device)
        with evaluating(self.encoder):
            one, two = (self.encoder(lms).shape[1] for lms in (blank[..., :FRAMES], blank))
        if not one or FRAMES % one or two != 2 * one:
            raise ValueError(
                f"This encoder gives {one} embeddings for {FRAMES} spectrogram frames and {two} for {2 * FRAMES}: "
                "timestamps need one for every so many frames. Scene embeddings need no such rule."
            )
        return FRAMES // one


def load_model(model_file_path: str | Path = "") -> HearModel:
    """The model that the other two functions take, in evaluation mode, on the CPU.

    Args:
        model_file_path: anything that `slicer_lite.load` takes: a run folder, a `.safetensors` file or the name of
            weights that come with the package, which without it are `tiny`.

    Raises:
        FileNotFoundError, ValueError: as `slicer_lite.load`.
    """
    return HearModel(load_encoder(model_file_path or SHIPPED / f"tiny{SUFFIX}")).eval()


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """One embedding a clip, the same as `slicer_lite.explore.embed` gives: the mean over windows of 0.95 s.

    Args:
        audio: `(n_sounds, n_samples)` floats at 16 kHz, on any device. A sound's peak above 1 is scaled down to 1.
        model: of `load_model`.

    Returns:
        `(n_sounds, scene_embedding_size)` float32, on the audio's device.
    """
    sounds = _checked(audio)
    return torch.from_numpy(embed(model.encoder, list(sounds.numpy()))).to(_device(audio))


@torch.no_grad()
def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Embeddings every 40 ms, and the moments in the middle of what they were computed from.

    An embedding stands for 80 ms. To have one every 40 ms, the encoder reads the spectrogram twice, the second
    time shifted by 40 ms, and the two readings take turns: every embedding is computed, none interpolated.
    It hears about 0.22 s (the reach of three 3 x 3 convolutions and poolings); beyond the ends it hears the mean
    level, as in training.

    That is AudioNTT. Another encoder's embeddings stand for `model.span` frames of 10 ms each, one stretch after the
    other, and are brought to every 50 ms or less by as many readings as that takes.

    Args:
        audio: `(n_sounds, n_samples)` floats at 16 kHz, at least 560 samples (35 ms). A sound's peak above 1 is
            scaled down to 1.
        model: of `load_model`.

    Returns:
        `(n_sounds, n_timestamps, timestamp_embedding_size)` float32, and `(n_sounds, n_timestamps)` float32 in
        milliseconds: 35, 75, 115, …, the last one less than 40 ms before the end of the clip.

    Raises:
        ValueError: clips that are too short or cannot be sound; an encoder without a `span`.
    """
    first, step = _moments(model.span)
    device = _device(audio)
    audio = _checked(audio)
    if audio.shape[1] < first:
        raise ValueError(
            f"Clips of {audio.shape[1]} samples are too short for a timestamp: {first} at least."
        )
    count = (audio.shape[1] - first) // (step * HOP) + 1
    together = max(1, BATCH * WINDOW // audio.shape[1])  # clips at once, so that long ones fit into memory
    encoder_device = model.encoder.mean.device
    parts = [_by_turns(part.to(encoder_device), model, count) for part in audio.split(together)]
    embeddings = torch.cat(parts).to(device)
    stamps = (first + step * HOP * torch.arange(count, device=device)) * (1000 / SAMPLE_RATE)
    return embeddings, stamps.expand(len(audio), -1)


def _moments(span: int) -> tuple[int, int]:
    """The first timestamp in samples, the middle of the first embedding's frames; and how many frames they are apart.

    Of AudioNTT 560 samples, 35 ms, the middle of frames 0 to 7; and 4 frames.
    """
    return (span - 1) * HOP // 2, max(step for step in range(1, _APART + 1) if span % step == 0)


def _by_turns(audio: Tensor, model: HearModel, count: int) -> Tensor:
    """`(B, S)` -> `(B, count, dim)`: readings shifted by `step` frames against each other take turns."""
    lms = model.encoder.standardise(model.logmel(audio))  # (B, 1, 64, T)
    span, (_, step) = model.span, _moments(model.span)
    readings = span // step
    rounds = count // readings + (readings > 1)  # the first has to reach beyond the last moment of the others
    # Zeros are the mean level. Readings but the first begin one embedding early, so that this one, which is dropped,
    # takes the effects of the left edge.
    before = span - step
    missing = span * rounds + before - lms.shape[-1]
    lms = nn.functional.pad(lms, (before, max(missing, 0)))
    first = model.encoder(lms[..., before : before + span * rounds])  # (B, rounds, dim) at 35, 115, … ms
    others = [
        model.encoder(lms[..., begin : begin + span * (rounds + 1)])[
            :, 1:
        ]  # (B, rounds, dim) at 75, 155, … ms
        for begin in range(0, before, step)
    ]
    return torch.stack([first, *others], dim=2).flatten(1, 2)[:, :count].float()


def _device(audio: Tensor | np.ndarray) -> torch.device:
    return audio.device if isinstance(audio, Tensor) else torch.device("cpu")


def _checked(audio: Tensor | np.ndarray) -> Tensor:
    """The sounds as float32 on the CPU, each checked and scaled as `embed` does it."""
    if not isinstance(audio, Tensor | np.ndarray):
        raise ValueError(f"audio: expected a tensor (n_sounds, n_samples), got a {type(audio).__name__}.")
    audio = torch.as_tensor(audio)
    channels = audio.ndim == 2 and audio.shape[1] <= 32 < audio.shape[0]
    if audio.ndim != 2 or not audio.is_floating_point() or not audio.numel() or channels:
        hint = " soundfile's (samples, channels) are one sound: audio.mean(1)[None]." if channels else ""
        hint = " One sound is audio[None]." if audio.ndim == 1 else hint
        raise ValueError(
            f"audio: HEAR passes floats of shape (n_sounds, n_samples), got {tuple(audio.shape)} of "
            f"{audio.dtype}.{hint}"
        )
    return torch.from_numpy(np.stack(check_waveforms(list(audio))))
