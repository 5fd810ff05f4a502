"""A plug for EVAR, the evaluation package of BYOL-A's authors; see docs/evar.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from slicer_lite.config import SAMPLE_RATE
from slicer_lite.explore.embed import Embedder
from slicer_lite.share.weights import load_encoder


class AR_SLICER(Embedder):  # noqa: N801 (EVAR's way of naming)
    """What EVAR asks of an audio representation: `precompute`, `encode_frames` and `forward`.

    Args:
        cfg: EVAR's settings, of which `weight_file` (anything that `slicer_lite.load` takes) and `sample_rate`
            are read.

    Raises:
        ValueError: `sample_rate` is not 16000.
        FileNotFoundError, ValueError: as `slicer_lite.load`.
    """

    def __init__(self, cfg: Any):
        if cfg.sample_rate != SAMPLE_RATE:
            raise ValueError(f"sample_rate: {cfg.sample_rate}: the encoder hears {SAMPLE_RATE} Hz only.")
        super().__init__(load_encoder(cfg.weight_file))
        self.cfg = cfg

    def precompute(self, device: torch.device, data_loader: Iterable[Any]) -> None:
        """Nothing: the mean and deviation of the training data came with the weights."""

    def encode_frames(self, batch_audio: Tensor) -> Tensor:
        """`(B, samples)` -> `(B, dim, T)`: 12 frames of 80 ms for each window of 0.95 s."""
        return self.frames(batch_audio).flatten(1, 2).transpose(1, 2)
