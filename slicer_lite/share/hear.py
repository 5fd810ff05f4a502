"""The HEAR-2021 common interface (hearbenchmark.com/hear-api.html) over the same encoder.

heareval, HEAR's evaluation kit, takes the name of this module and a path of weights:

    python -m heareval.embeddings.runner slicer_lite.share.hear --model runs/first/weights.safetensors
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from slicer_lite.audio.store import check_waveforms
from slicer_lite.config import HOP, SAMPLE_RATE, WINDOW
from slicer_lite.explore.embed import BATCH, embed
from slicer_lite.method.encoder import Encoder
from slicer_lite.method.logmel import LogMel
from slicer_lite.share.weights import SHIPPED, SUFFIX, load_encoder

STEP = 4  # spectrogram frames, 40 ms, between timestamps: at most the 50 ms that HEAR recommends
_SPAN = 8  # spectrogram frames, 80 ms, in one embedding
_FIRST = _SPAN * HOP // 2 - HOP // 2  # samples, 35 ms: the middle of frames 0 to 7, which are 10 ms apart


class HearModel(nn.Module):
    """An encoder and its spectrogram, with the three attributes that HEAR reads."""

    sample_rate: int = SAMPLE_RATE

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        self.logmel = LogMel()
        self.scene_embedding_size: int = encoder.dim
        self.timestamp_embedding_size: int = encoder.dim


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

    Args:
        audio: `(n_sounds, n_samples)` floats at 16 kHz, at least 560 samples (35 ms). A sound's peak above 1 is
            scaled down to 1.
        model: of `load_model`.

    Returns:
        `(n_sounds, n_timestamps, timestamp_embedding_size)` float32, and `(n_sounds, n_timestamps)` float32 in
        milliseconds: 35, 75, 115, …, the last one less than 40 ms before the end of the clip.
    """
    device = _device(audio)
    audio = _checked(audio)
    if audio.shape[1] < _FIRST:
        raise ValueError(
            f"Clips of {audio.shape[1]} samples are too short for a timestamp: {_FIRST} at least."
        )
    count = (audio.shape[1] - _FIRST) // (STEP * HOP) + 1
    together = max(1, BATCH * WINDOW // audio.shape[1])  # clips at once, so that long ones fit into memory
    encoder_device = model.encoder.mean.device
    parts = [_every_40_ms(part.to(encoder_device), model, count) for part in audio.split(together)]
    embeddings = torch.cat(parts).to(device)
    stamps = (_FIRST + STEP * HOP * torch.arange(count, device=device)) * (1000 / SAMPLE_RATE)
    return embeddings, stamps.expand(len(audio), -1)


def _every_40_ms(audio: Tensor, model: HearModel, count: int) -> Tensor:
    lms = model.encoder.standardise(model.logmel(audio))  # (B, 1, 64, T)
    pairs = count // 2 + 1  # the first reading has to reach beyond the last moment of the second
    # Zeros are the mean level. The second reading begins 40 ms early, so that its first embedding, which is
    # dropped, takes the effects of the left edge.
    missing = _SPAN * pairs + STEP - lms.shape[-1]
    lms = nn.functional.pad(lms, (STEP, max(missing, 0)))
    first = model.encoder(lms[..., STEP : STEP + _SPAN * pairs])  # (B, pairs, dim) at 35, 115, … ms
    second = model.encoder(lms[..., : _SPAN * (pairs + 1)])[:, 1:]  # (B, pairs, dim) at 75, 155, … ms
    return torch.stack([first, second], dim=2).flatten(1, 2)[:, :count].float()


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
