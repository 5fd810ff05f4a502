"""AudioNTT-2020, the encoder of BYOL-A [B], and the statistics that belong to its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, pad

from slicer_lite.base import distributed
from slicer_lite.config import N_MELS


class Encoder(nn.Module):
    """Three convolution blocks over the spectrogram, then two linear layers at each time step [B].

    Shape: standardised log-mels `(B, 1, F, T)` -> frame embeddings `(B, T // 8, dim)`, one every 80 ms.

    The mean and deviation of the log-mels that it was trained on travel with its weights: `standardise`
    applies them. They are 0 and 1 until somebody sets them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, n_mels: int = N_MELS, channels: int = 64, dim: int = 2048, dropout: float = 0.3):
        super().__init__()
        if n_mels % 8:
            raise ValueError(
                f"n_mels = {n_mels}: it must be a multiple of 8, since it is halved three times."
            )
        self.n_mels, self.channels, self.dim = n_mels, channels, dim
        blocks = _InputBlock(*_block(1, channels)), _block(channels, channels), _block(channels, channels)
        # Channels last in memory: the layout in which convolutions are fastest on CPUs and GPUs alike.
        self.features = nn.Sequential(*blocks).to(memory_format=torch.channels_last)
        self.fc = nn.Sequential(
            nn.Linear(channels * (n_mels // 8), dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dim, dim),
            nn.ReLU(),
        )
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("deviation", torch.tensor(1.0))

    def standardise(self, lms: Tensor) -> Tensor:
        """`(lms - mean) / deviation` with the statistics of the training data; any shape."""
        return (lms - self.mean) / self.deviation

    def forward(self, lms: Tensor) -> Tensor:
        return self.frames(self.blocks(lms)[-1])

    def blocks(self, lms: Tensor) -> list[Tensor]:
        """What comes out of each convolution block: `(B, C, F / 2, T / 2)`, `(B, C, F / 4, T / 4)`, …"""
        if lms.ndim != 4 or lms.shape[1] != 1:
            raise ValueError(f"An encoder takes log-mels of shape (B, 1, F, T), got {tuple(lms.shape)}.")
        outputs = [lms.contiguous(memory_format=torch.channels_last)]
        for block in self.features:
            outputs.append(block(outputs[-1]))
        return outputs[1:]

    def frames(self, last_block: Tensor) -> Tensor:
        """Frame embeddings from the last block's output: `(B, C, F / 8, T / 8)` -> `(B, T / 8, dim)`."""
        # (B, T / 8, F / 8 * C): mel band by mel band, its channels
        return self.fc(last_block.permute(0, 3, 2, 1).flatten(2))

    @staticmethod
    def pool(frames: Tensor) -> Tensor:
        """One embedding a clip: maximum plus mean over time [B]. `(B, T, dim)` -> `(B, dim)`."""
        return frames.amax(1) + frames.mean(1)

    @classmethod
    def from_audiontt(cls, state: Mapping[str, Tensor]) -> Encoder:
        """An encoder with the weights of a LAPE or BYOL-A AudioNTT checkpoint.

        Args:
            state: its state dict; keys may carry a prefix (`encoder.`, `module.encoder_q.`, …) and may come
                beside others, which are ignored.

        Raises:
            ValueError: no AudioNTT encoder, or more than one, is among the keys, or shapes are not those of one.
        """
        convolutions, state = _audiontt_part(state)
        renamed = {}
        for name, value in state.items():
            for number, old in enumerate(convolutions):
                name = name.replace(f"{old}.", f"features.{number}.")
            counter = name.endswith("num_batches_tracked")
            renamed[name] = value.detach().clone() if counter else value.detach().clone().float()
        lacking = {"features.0.0.weight", "fc.0.weight"} - set(renamed)
        if lacking:
            raise ValueError(f"Not an AudioNTT encoder: missing {sorted(lacking)}.")
        first, hidden = renamed["features.0.0.weight"], renamed["fc.0.weight"]
        if first.ndim != 4 or hidden.ndim != 2 or 0 in (*first.shape, *hidden.shape):
            raise ValueError(
                f"Not an AudioNTT encoder: its first convolution has the shape {tuple(first.shape)}, its first "
                f"linear layer {tuple(hidden.shape)}."
            )
        encoder = cls(n_mels=8 * hidden.shape[1] // len(first), channels=len(first), dim=len(hidden))
        try:
            missing, unexpected = encoder.load_state_dict(renamed, strict=False)
        except RuntimeError as error:
            raise ValueError(f"Not an AudioNTT encoder: {error}") from None
        missing = [
            key
            for key in missing
            if not key.endswith("num_batches_tracked") and key not in ("mean", "deviation")
        ]
        if missing or unexpected:
            raise ValueError(f"Not an AudioNTT encoder: missing {missing}, unexpected {list(unexpected)}.")
        return encoder


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        # Pooling first gives the same numbers as ReLU first, and the ReLU then has a quarter of the work.
        nn.MaxPool2d(2),
        nn.ReLU(),
    )


class _InputBlock(nn.Sequential):
    """The first block: the same layers and numbers, with the batch norm folded into the convolution.

    Its input has one channel, so the mean and variance of what each filter w gives follow from the mean m and the
    covariance C of the input's 3 x 3 neighbourhoods: w m and w C w. The batch norm, a scale and a shift by them, then
    becomes part of the filter, and its own passes over the largest tensor of the network are spared. With 64 channels
    that is a third of the whole encoder's time, forwards and backwards.
    """

    def forward(self, lms: Tensor) -> Tensor:
        convolution, norm = cast(Any, self[0]), cast(Any, self[1])
        pool, relu = self[2:]
        # In single precision also where the rest is not: statistics are sums over millions of values.
        with torch.autocast(lms.device.type, enabled=False):
            filters = convolution.weight.flatten(1)  # (C, 9)
            if norm.training:
                mean, covariance, places = _neighbourhoods(lms)
                mean = filters @ mean + convolution.bias
                # Where a filter says the same everywhere rounding may leave a little less than 0.
                variance = (filters @ covariance * filters).sum(1).clamp(min=0)
                with torch.no_grad():
                    norm.num_batches_tracked += 1
                    norm.running_mean.lerp_(mean, norm.momentum)
                    norm.running_var.lerp_(variance * (places / (places - 1)), norm.momentum)
            else:
                mean, variance = norm.running_mean, norm.running_var
            scale = norm.weight * (variance + norm.eps).rsqrt()
            filters = convolution.weight * scale[:, None, None, None]
            shift = norm.bias + (convolution.bias - mean) * scale
        device = lms.device.type
        if device == "cuda":
            return relu(_pooled_product(lms, filters, shift))
        if device == "cpu" and not torch.is_autocast_enabled(device) and not _is_recorded():
            # A third of the convolution's time, with the gradient, if the values of a few clips stay in the cache.
            return torch.cat([relu(_pooled_product(some, filters, shift)) for some in lms.split(4)])
        return relu(pool(conv2d(lms, filters, shift, padding=1)))


def _is_recorded() -> bool:
    """Whether this call becomes a program, which must then do for any number of clips."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _pooled_product(lms: Tensor, filters: Tensor, shift: Tensor) -> Tensor:
    """The same as `max_pool2d(conv2d(lms, filters, shift, padding=1), 2)`, quicker for one channel of input.

    The four values that are pooled are functions of one 4 x 4 neighbourhood, so that all of them are one product of
    matrices, and their maximum is taken of numbers that lie side by side.
    """
    four = torch.stack(
        [pad(filters[:, 0], (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)]
    )  # (4, C, 4, 4)
    patches = pad(lms[:, 0], (1, 1, 1, 1)).unfold(1, 4, 2).unfold(2, 4, 2)  # (B, F / 2, T / 2, 4, 4)
    values = linear(patches.flatten(3), four.flatten(2).flatten(0, 1))  # (B, F / 2, T / 2, 4 C)
    return (values.unflatten(3, (4, -1)).amax(3) + shift.to(values.dtype)).permute(0, 3, 1, 2)


def _neighbourhoods(lms: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean `(9,)` and covariance `(9, 9)` of all 3 x 3 neighbourhoods of a batch `(B, 1, F, T)`, and their number.

    Of the joined batch, where several processes share one.
    """
    padded = pad(lms[:, 0], (1, 1, 1, 1))
    total = products = torch.zeros((), device=lms.device)
    # Sums over 4 x 4 neighbourhoods, of which each holds four of 3 x 3: less than half of the memory and the work. On
    # a CPU a few clips at a time, whose neighbourhoods stay in the cache: a third of the time of all at once.
    for some in padded.split(8 if lms.device.type == "cpu" else len(lms)):
        patches = (
            some.unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 3, 4, 1, 2).flatten(3).flatten(1, 2)
        )  # (b, 16, F / 2 * T / 2)
        total = total + patches.sum((0, 2))
        products = products + (patches @ patches.mT).sum(0)
    total, products = total.view(4, 4), products.view(4, 4, 4, 4)
    corners = [(slice(i, i + 3), slice(j, j + 3)) for i in (0, 1) for j in (0, 1)]
    total = torch.stack([total[corner].flatten() for corner in corners]).sum(0)  # (9,)
    products = torch.stack([products[2 * corner].flatten(2).flatten(0, 1) for corner in corners]).sum(
        0
    )  # (9, 9)
    if lms.shape[3] % 2:  # the last column's neighbourhoods are in none of 4 x 4
        last = padded[..., -3:].unfold(1, 3, 1).mT.flatten(2).flatten(0, 1)  # (B F, 9)
        total, products = total + last.sum(0), products + last.T @ last
    places = lms.numel()
    mean, products = total / places, products / places
    distributed.average([mean, products])
    return mean, products - mean.outer(mean), places * distributed.size()


def _audiontt_part(state: Mapping[str, Tensor]) -> tuple[tuple[str, str, str], dict[str, Tensor]]:
    """The names of the convolution blocks, and the encoder's own entries without their prefix."""
    # BYOL-A counts its layers through (features.0, .4, .8); LAPE names its blocks.
    for blocks in (("features_1", "features_2", "features_3"), ("features.0", "features.1", "features.2")):
        prefixes = [
            k.removesuffix(f"{blocks[0]}.0.weight") for k in state if k.endswith(f"{blocks[0]}.0.weight")
        ]
        if len(prefixes) == 1:
            prefix = prefixes[0]
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            return blocks, {k: v for k, v in own.items() if k.startswith((*blocks, "fc."))}
        if len(prefixes) > 1:
            raise ValueError(
                f"Several encoders are in this state dict, under {prefixes}: pass the keys of one."
            )
    flat = [k.removesuffix("features.8.weight") for k in state if k.endswith("features.8.weight")]
    if len(flat) != 1:
        raise ValueError(f"No AudioNTT encoder is among the keys, which begin {sorted(state)[:5]}.")
    own = {k.removeprefix(flat[0]): v for k, v in state.items() if k.startswith(flat[0])}
    places = {"features.0": "b1.0", "features.1": "b1.1", "features.4": "b2.0", "features.5": "b2.1"}
    places |= {"features.8": "b3.0", "features.9": "b3.1"}
    renamed = {}
    for name, value in own.items():
        layer, _, rest = name.rpartition(".")
        if layer in places:
            renamed[f"{places[layer]}.{rest}"] = value
        elif name.startswith("fc."):
            renamed[name] = value
    return ("b1", "b2", "b3"), renamed
