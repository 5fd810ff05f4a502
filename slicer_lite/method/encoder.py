"""AudioNTT-2020, the encoder of BYOL-A [B], and the statistics that belong to its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from slicer_lite.base.shapes import Float
from slicer_lite.config import N_MELS
from slicer_lite.method.fast import InputBlock


class FrameEncoder(nn.Module):
    """What all encoders have in common: `as_encoder` (share/wrapped.py) makes one of any network.

    Shape: standardised log-mels `(B, 1, F, T)` -> frame embeddings `(B, T', dim)`.

    The mean and deviation of the log-mels that it was trained on travel with its weights: `standardise`
    applies them. They are 0 and 1 until somebody sets them.

    Attributes:
        dim: numbers in an embedding.
        n_mels: F.
        factory: makes another with new random weights; None where nobody has said how.
    """

    mean: Tensor
    deviation: Tensor
    factory: Callable[[], nn.Module] | None = None

    def __init__(self, dim: int, n_mels: int = N_MELS):
        super().__init__()
        self.dim, self.n_mels = dim, n_mels
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("deviation", torch.tensor(1.0))

    def standardise(self, lms: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`(lms - mean) / deviation` with the statistics of the training data; any shape."""
        return (lms - self.mean) / self.deviation

    @staticmethod
    def pool(frames: Float[Tensor, "*B T D"]) -> Float[Tensor, "*B D"]:
        """One embedding a clip: maximum plus mean over time [B]. `(…, T, dim)` -> `(…, dim)`."""
        return frames.amax(-2) + frames.mean(-2)


class Encoder(FrameEncoder):
    """AudioNTT: three convolution blocks over the spectrogram, then two linear layers at each time step [B].

    Shape: standardised log-mels `(B, 1, F, T)` -> frame embeddings `(B, T // 8, dim)`, one every 80 ms.
    """

    def __init__(self, n_mels: int = N_MELS, channels: int = 64, dim: int = 2048, dropout: float = 0.3):
        super().__init__(dim, n_mels)
        if n_mels % 8:
            raise ValueError(
                f"n_mels = {n_mels}: it must be a multiple of 8, since it is halved three times."
            )
        self.channels = channels
        self.factory = partial(Encoder, n_mels, channels, dim)  # with the usual dropout
        blocks = InputBlock(*_block(1, channels)), _block(channels, channels), _block(channels, channels)
        # Channels last in memory: the layout in which convolutions are fastest on CPUs and GPUs alike.
        self.features = nn.Sequential(*blocks).to(memory_format=torch.channels_last)
        self.fc = nn.Sequential(
            nn.Linear(channels * (n_mels // 8), dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dim, dim),
            nn.ReLU(),
        )

    def forward(self, lms: Float[Tensor, "B 1 F T"]) -> Float[Tensor, "B T//8 {self.dim}"]:
        return self.frames(self.blocks(lms)[-1])

    def blocks(self, lms: Float[Tensor, "B 1 F T"]) -> list[Float[Tensor, "B C _ _"]]:
        """What comes out of each convolution block: `(B, C, F / 2, T / 2)`, `(B, C, F / 4, T / 4)`, …"""
        if lms.ndim != 4 or lms.shape[1] != 1:
            raise ValueError(f"An encoder takes log-mels of shape (B, 1, F, T), got {tuple(lms.shape)}.")
        outputs = [lms.contiguous(memory_format=torch.channels_last)]
        for block in self.features:
            outputs.append(block(outputs[-1]))
        return outputs[1:]

    def frames(self, last_block: Float[Tensor, "B C F T"]) -> Float[Tensor, "B T {self.dim}"]:
        """Frame embeddings from the last block's output: `(B, C, F / 8, T / 8)` -> `(B, T / 8, dim)`."""
        # (B, T / 8, F / 8 * C): mel band by mel band, its channels
        return self.fc(last_block.permute(0, 3, 2, 1).flatten(2))

    @staticmethod
    def from_audiontt(state: Mapping[str, Tensor]) -> Encoder:
        """An encoder with the weights of a LAPE or BYOL-A checkpoint: see `slicer_lite.share.audiontt`."""
        # Foreign names are no part of the method, so this door alone leads upwards, when somebody opens it.
        from slicer_lite.share.audiontt import encoder_of

        return encoder_of(state)


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        # Pooling first gives the same numbers as ReLU first, and the ReLU then has a quarter of the work.
        nn.MaxPool2d(2),
        nn.ReLU(),
    )
