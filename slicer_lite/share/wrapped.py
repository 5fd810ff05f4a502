"""The door for encoders of one's own: any network that maps log-mels to frame embeddings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from slicer_lite.base.modes import evaluating
from slicer_lite.base.randomness import seeded
from slicer_lite.config import FRAMES, N_MELS
from slicer_lite.method.encoder import FrameEncoder

_SHAPE = 2, 1, N_MELS, FRAMES  # what an encoder is tried with


class Wrapped(FrameEncoder):
    """Another network, `module`, with what all encoders have in common: statistics, pooling, `dim`."""

    def __init__(self, module: nn.Module, dim: int):
        super().__init__(dim)
        self.module = module
        self.to(_device(module))
        self.training = module.training

    def forward(self, lms: Tensor) -> Tensor:
        return self.module(lms)


def as_encoder(source: nn.Module | Callable[[], nn.Module]) -> FrameEncoder:
    """Any network as an encoder, tried once with zeros.

    It maps standardised log-mels `(B, 1, 64, T)` to frame embeddings `(B, T', d)`, and says d as `dim`. A window has
    T = 96, other callers pass other lengths.

    Args:
        source: a module, or a class or function without arguments that makes one, by which baselines can make
            others with new weights. A `FrameEncoder` stays itself, any other module is wrapped.

    Raises:
        ValueError: it is no module and makes none, has no `dim`, or does not give that shape.
    """
    factory = None if isinstance(source, nn.Module) else source
    module: Any = source if factory is None else _made(factory)
    if not isinstance(module, nn.Module):
        made = f" that makes a {type(module).__name__}" if callable(source) else ""
        raise ValueError(
            "encoder: expected a torch.nn.Module, or a class or function without arguments that makes one, got a "
            f"{type(source).__name__}{made}."
        )
    name, dim = type(module).__name__, getattr(module, "dim", None)
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
        has = "has no `dim`" if dim is None else f"has dim = {dim!r}"
        raise ValueError(
            f"encoder: {name} {has}: set it to the number of values in a frame embedding, as in `self.dim = 256`."
        )
    encoder = module if isinstance(module, FrameEncoder) else Wrapped(module, dim)
    _try(encoder, name)
    encoder.factory = factory or encoder.factory
    return encoder


def makes_encoder(source: Callable[[], Any] | None) -> Callable[[], FrameEncoder] | None:
    """What makes a method's encoder, of the user's own class or function; None for AudioNTT.

    Raises:
        ValueError: it is a module: student, teacher and baselines need networks of their own.
    """
    if isinstance(source, nn.Module):
        raise ValueError(
            f"encoder: got a {type(source).__name__}, of which every run would change the same weights: give the "
            "class or function that makes it."
        )

    if source is None:
        return None

    def make() -> FrameEncoder:
        with torch.device("cpu"):  # the user's code may not know how to be of shapes alone
            return as_encoder(source)

    return make


def kind_of(encoder: FrameEncoder) -> str:
    """The name of its class, of a wrapped one that of the module inside."""
    return type(encoder.module if isinstance(encoder, Wrapped) else encoder).__name__


def fresh(like: FrameEncoder) -> FrameEncoder:
    """Another encoder of the same kind as its factory makes it, with PyTorch's own random numbers.

    Raises:
        ValueError: what makes it is not known, or gives the same one again.
    """
    name = kind_of(like)
    if like.factory is None:
        raise ValueError(
            f"encoder: how to make another {name} with new weights is not known. Give slicer_lite.as_encoder the "
            "class or function that makes it, not the module."
        )
    other = as_encoder(like.factory)
    if not {id(weight) for weight in like.parameters()}.isdisjoint(map(id, other.parameters())):
        raise ValueError(
            f"encoder: what should make another {name} gives the same one again: let it make a new one at each call."
        )
    return other


def _made(factory: Any) -> Any:
    if not callable(factory):
        return None
    name = getattr(factory, "__name__", type(factory).__name__)
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise ValueError(
            f"encoder: {name} cannot be called without arguments ({error}): give a function that fills them in, as "
            f"lambda: {name}(…)."
        ) from None
    return factory()


@torch.no_grad()
def _try(encoder: FrameEncoder, name: str) -> None:
    device = _device(encoder)
    if device.type == "meta":  # shapes alone, for which not every network has answers
        return
    with evaluating(encoder), seeded(0, device):
        try:
            frames: Any = encoder(torch.zeros(_SHAPE, device=device))
        except Exception as error:  # of whatever kind: it is somebody else's code
            raise ValueError(
                f"encoder: {name} does not take log-mels of shape {_SHAPE}: {type(error).__name__}: {error}"
            ) from error
    wanted = f"expected float frame embeddings (2, T', {encoder.dim}), {encoder.dim} being its `dim`"
    if not isinstance(frames, Tensor):
        raise ValueError(f"encoder: {name} gives a {type(frames).__name__}: {wanted}, alone.")
    right = frames.ndim == 3 and len(frames) == 2 and frames.shape[1] > 0 and frames.shape[2] == encoder.dim
    if not right or not frames.is_floating_point():
        raise ValueError(
            f"encoder: {name} gives {tuple(frames.shape)} of {frames.dtype} for log-mels of shape {_SHAPE}: {wanted}."
        )


def _device(module: nn.Module) -> torch.device:
    """Where its first tensor is."""
    return next(
        (tensor.device for tensor in chain(module.parameters(), module.buffers())), torch.empty(0).device
    )
