"""Will a training step fit into memory? An estimate before the first one, and words for when it did not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from slicer_lite.base import distributed
from slicer_lite.base.device import autocast
from slicer_lite.config import FRAMES, N_MELS, WINDOW, Config
from slicer_lite.method.moco import MoCo
from slicer_lite.share.weights import METHODS

# Numbers that an optimiser keeps for each weight of a matrix, of a vector.
_STATES = {"adamw": (2, 2), "muon": (1, 2), "sgd": (1, 1)}
_INPUTS = 4 * (WINDOW + 4 * N_MELS * FRAMES)  # bytes of a clip's waveform, log-mel, partner and views


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


def check(config: Config, device: torch.device) -> None:
    """Refuse settings that cannot fit, before the first step. Without psutil, CPUs are not looked at.

    Raises:
        ValueError: a step needs more than is free; says how many clips a batch would do.
    """
    room = available(device)
    if room is None:
        return
    held = _held(config)
    if held > room:
        raise ValueError(
            f"Weights, optimiser, queue and memory need about {_gigabytes(held)}, and {_gigabytes(room)} are free "
            f"on {device}: lower dim, queue or mix_memory."
        )
    need, mine = estimate(config, device), config.batch_size // distributed.size()
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


def available(device: torch.device) -> int | None:
    """Bytes that are free for this process; None where that cannot be told.

    CPU, and MPS, which shares its memory: psutil's figure, an equal part for each process on the machine. A
    container's own limit is not known to it.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    try:
        import psutil  # here, because training works without it
    except ModuleNotFoundError:
        return None
    return psutil.virtual_memory().available // distributed.size_here()


def estimate(config: Config, device: torch.device) -> Need:
    """What training will need, from forward passes of two and of four clips of silence.

    Nearly all of a step's memory is what the forward pass keeps for the backward pass, and that grows by the
    same amount with each clip. To it come twice its largest tensor, which the backward pass takes at its peak,
    and the inputs. On CPUs the peak was measured 1 % below to 9 % above this: see docs/scaling.md.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model = METHODS[config.method](config).to(device).train()
        two, four = (_kept(model, config, device, clips) for clips in (2, 4))
    growth = [(after - before) // 2 for before, after in zip(two, four, strict=True)]
    fixed = sum(two) - 2 * sum(growth)
    return Need(_held(config) + fixed, sum(growth) + 2 * max(growth) + _INPUTS)


@contextmanager
def explained(config: Config, device: torch.device) -> Iterator[None]:
    """Say in words that memory ran out after all.

    Raises:
        MemoryError: in place of what CUDA, MPS or the CPU's allocator raised.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError, CUDA's, is a RuntimeError
        known = ("out of memory", "can't allocate memory")
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in known):
            raise
        raise MemoryError(
            f"The memory of {device} is full: batch_size = {config.batch_size} does not fit beside what else is "
            "there. Free some and repeat the command, which goes on from the last checkpoint; or begin again in "
            "another folder with a lower batch_size (--batch-size)."
        ) from error


def _held(config: Config) -> int:
    """Bytes of weights, gradients, optimiser state, buffers and k-mix's memory, without making any of them."""
    with torch.device("meta"):
        model = METHODS[config.method](config)
    of_matrix, of_vector = _STATES[config.optimizer]
    weights = 0
    for weight in model.parameters():
        kept = of_matrix if weight.ndim > 1 else of_vector
        weights += weight.nbytes * (2 + kept if weight.requires_grad else 1)  # 2: itself and its gradient
    memory = 0 if config.mixing == "none" else 4 * config.mix_memory * N_MELS * FRAMES
    return weights + sum(buffer.nbytes for buffer in model.buffers()) + memory


def _kept(model: MoCo, config: Config, device: torch.device, clips: int) -> list[int]:
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
