"""Randomness as a function of (seed, step, purpose), never of what ran before.

This is what makes resuming simple: a run that was stopped draws at step 500 exactly what it would have drawn
had it never been stopped, and several processes draw the same numbers without talking to each other.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch


def generator(seed: int, step: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose at one step.

    Draws are made on the CPU and moved, so that a GPU receives the same numbers as a CPU.
    """
    words = np.random.SeedSequence([seed, step, zlib.crc32(purpose.encode())]).generate_state(2, np.uint32)
    # 63 bits: PyTorch takes seeds as signed 64-bit numbers.
    value = (int(words[0]) << 32 | int(words[1])) & 0x7FFF_FFFF_FFFF_FFFF
    return torch.Generator().manual_seed(value)


# PyTorch's own generators are those of all threads: also of a widget that is used while a cell trains.
_ALONE = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """PyTorch's own random numbers begin at `seed`, and afterwards go on where the caller was.

    Those of the CPU, and of the device if it is another one. (`torch.manual_seed` would begin all devices anew.)
    Other threads that come here wait.
    """
    kind = "cpu" if device is None else device.type
    with _ALONE, torch.random.fork_rng(devices=[device] if kind == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        before = torch.mps.get_rng_state() if kind == "mps" else None
        if device is not None and kind == "cuda":
            # Of this device: `torch.cuda.manual_seed` is about the current one, which may be another.
            number = torch.cuda.current_device() if device.index is None else device.index
            torch.cuda.default_generators[number].manual_seed(seed)
        elif kind == "mps":
            torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)


def clip_order(count: int, batch_size: int, seed: int, step: int) -> torch.Tensor:
    """Which clips step `step` reads: `(batch_size,)` indices below `count`.

    Imagine the data set shuffled anew for every pass and the passes laid end to end; step s reads places
    s * batch_size to (s + 1) * batch_size - 1. A batch may span two passes, or more if it is larger than the
    data set.
    """
    places = torch.arange(step * batch_size, (step + 1) * batch_size)
    passes = places // count
    order = torch.empty(batch_size, dtype=torch.long)
    for number in passes.unique().tolist():
        here = passes == number
        order[here] = _permutation(count, seed, number)[places[here] % count]
    return order


@lru_cache(maxsize=2)  # two passes may meet in a batch; for a hundred million clips one takes seconds
def _permutation(count: int, seed: int, number: int) -> torch.Tensor:
    """The order of a whole pass."""
    return torch.randperm(count, generator=generator(seed, number, "order of a pass"))
