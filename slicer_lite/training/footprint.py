"""Will a training step fit into memory? An estimate before the first one, and words for when it did not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from slicer_lite.base import distributed
from slicer_lite.base.device import autocast
from slicer_lite.base.free_memory import available
from slicer_lite.base.randomness import seeded
from slicer_lite.config import FRAMES, N_MELS, WINDOW, Config
from slicer_lite.method.method import Method
from slicer_lite.method.registry import new_method

MakesModel = Callable[[], Method] | None  # makes the method with fresh weights; None: that of the settings

# Numbers that an optimiser keeps for each weight of a matrix, of a vector.
_STATES = {"adamw": (2, 2), "muon": (1, 2), "sgd": (1, 1)}
_INPUTS = 4 * (WINDOW + 4 * N_MELS * FRAMES)  # bytes of a clip's waveform, log-mel, partner and views
_SOUND = 0.25  # of a GPU's free memory may hold the sounds [ours]


@dataclass(frozen=True)
class Need:
    """Bytes that training takes on its device.

    Attributes:
        held: whatever the batch: weights, gradients, optimiser, queue and memory.
        clip: for each clip of a process's part of the batch.
    """

    held: int
    clip: int

    def of(self, batch_size: int) -> int:
        """Bytes with that many clips a process."""
        return self.held + batch_size * self.clip


def check(config: Config, device: torch.device, makes_model: MakesModel = None) -> int | None:
    """Refuse settings that cannot fit, before the first step. Without psutil, CPUs are not looked at.

    All processes of a run call it together: the estimate is a step, of which some exchange messages.

    Returns:
        bytes that stay free beside a step; None where that cannot be told.

    Raises:
        ValueError: a step needs more than is free; says how many clips a batch would do.
    """
    room = available(device)
    if room is None:
        return None
    held = _held(config, makes_model)
    if held > room:
        raise ValueError(
            f"Weights, optimiser, queue and memory need about {_gigabytes(held)}, and {_gigabytes(room)} are free "
            f"on {device}: lower dim, queue or mix_memory."
        )
    need, mine = estimate(config, device, makes_model), config.batch_size // distributed.size()
    if need.of(mine) > room:
        most = max(room - need.held, 0) // need.clip * distributed.size()
        smaller = (
            f"Lower batch_size (--batch-size) to about {most}, or channels and dim."
            if most
            else "Lower channels and dim."
        )
        raise ValueError(
            f"A step with batch_size = {config.batch_size} needs about {_gigabytes(need.of(mine))}, and "
            f"{_gigabytes(room)} are free on {device}. {smaller}"
        )
    return room - need.of(mine)


def has_room_for_sound(device: torch.device, sound: int, spare: int | None) -> bool:
    """Whether so many bytes of sound can stay on a device: at most a quarter of what is free, and beside a step.

    To be asked before the networks are there; `spare` is of `check`.
    """
    return spare is not None and sound <= spare and sound < _SOUND * (available(device) or 0)


def estimate(config: Config, device: torch.device, makes_model: MakesModel = None) -> Need:
    """What training will need, from forward passes of two and of four clips of silence.

    Nearly all of a step's memory is what the forward pass keeps for the backward pass, and that grows by the
    same amount with each clip. To it come twice its largest tensor, which the backward pass takes at its peak,
    and the inputs. On CPUs the peak was measured 1 % below to 9 % above this: see docs/scaling.md.
    """
    with seeded(0, device):  # which chance decides does not matter, only that no other's draws change
        model = (makes_model or partial(new_method, config))().to(device).train()
        two, four = (_kept(model, config, device, clips) for clips in (2, 4))
    growth = [(after - before) // 2 for before, after in zip(two, four, strict=True)]
    fixed = sum(two) - 2 * sum(growth)
    return Need(_held(config, makes_model) + fixed, sum(growth) + 2 * max(growth) + _INPUTS)


@contextmanager
def explained(config: Config, device: torch.device) -> Iterator[None]:
    """Say in words that memory ran out after all.

    Raises:
        MemoryError: in place of what CUDA, MPS or the CPU's allocator raised.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError, CUDA's, is a RuntimeError
        # CUDA's and MPS's; the CPU's under Linux and macOS, and under Windows; that of CUDA's libraries.
        known = ("out of memory", "can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED")
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in known):
            raise
        raise MemoryError(
            f"The memory of {device} is full: batch_size = {config.batch_size} does not fit beside what else is "
            "there. Free some and repeat the command, which goes on from the last checkpoint; or begin again in "
            "another folder with a lower batch_size (--batch-size)."
        ) from error


def _held(config: Config, makes_model: MakesModel = None) -> int:
    """Bytes of weights, gradients, optimiser state, buffers and k-mix's memory, without making any of them."""
    with seeded(0), torch.device("meta"):
        model = (makes_model or partial(new_method, config))()
    of_matrix, of_vector = _STATES[config.optimizer]
    weights = 0
    for weight in model.parameters():
        kept = of_matrix if weight.ndim > 1 else of_vector
        weights += weight.nbytes * (2 + kept if weight.requires_grad else 1)  # 2: itself and its gradient
    memory = 0 if config.mixing == "none" else 4 * config.mix_memory * N_MELS * FRAMES
    return weights + sum(buffer.nbytes for buffer in model.buffers()) + memory


def _kept(model: Method, config: Config, device: torch.device, clips: int) -> list[int]:
    """Bytes of every tensor that the loss of so many clips keeps for its gradient, in order."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    silence = torch.zeros(clips, 1, N_MELS, FRAMES, device=device)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast(config, device):
        losses = model.loss(silence, silence)
    del losses  # until here it holds all that was kept, so that no address was used twice
    return list(kept.values())


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
