"""Which device to compute on, and in which precision."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from slicer_lite.config import Config

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_MIB = 2**20

_keepers, _counting = 0, threading.Lock()  # how many `keep_freed_blocks` are under way


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes a CUDA GPU, else Apple's MPS, else the CPU; any other name must be a device that is there.

    Raises:
        ValueError: unknown name, or a device that this machine does not have.
    """
    if name == "auto":
        return _best()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"Unknown device {name!r}: use auto, cpu, cuda, cuda:0, … or mps.") from None
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < gpus,
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        have = [f"cuda:{number}" for number in range(gpus)] + [
            name for name in ("mps", "cpu") if available[name]
        ]
        raise ValueError(f"Device {name!r} is not there on this machine. Use --device {' or '.join(have)}.")
    return device


def _best() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 there: a GPU or a CPU with instructions for it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # PyTorch has no public question for this; without an answer, fp32 is always right.
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return False


def in_double(x: Tensor) -> Tensor:
    """`x` in double precision, on the CPU where its device has none: on MPS."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def autocast(config: Config, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which student and teacher run: bf16 where configured and sensible, else fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=trains_in_bf16(config, device))


def trains_in_bf16(config: Config, device: torch.device) -> bool:
    """Whether student and teacher compute in bf16 there."""
    return config.precision == "bf16" or (config.precision == "auto" and computes_in_bf16(device))


@contextmanager
def keep_freed_blocks(device: torch.device, bf16: bool = False) -> Iterator[None]:
    """Keep the memory that a batch has freed for the next one: in fp32 on CPUs, under Linux with glibc.

    By itself glibc hands every large tensor's memory back to the system and asks for it anew, which the system then
    clears page by page. That took a fifth of a training step and a third of embedding (docs/experiments.md). The peak
    stays what it is, but not in bf16, where nothing is done (docs/scaling.md). Only the main thread gains by it: the
    others' heaps end at 64 MB. When the outermost `with` ends all is handed back.
    """
    global _keepers
    wanted = device.type == "cpu" and not bf16 and sys.platform == "linux"
    libc: Any = ctypes.CDLL(None) if wanted else None
    if not hasattr(libc, "mallopt"):
        yield
        return
    with _counting:
        _keepers += 1
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
    try:
        yield
    finally:
        with _counting:
            _keepers -= 1
            if not _keepers:
                libc.mallopt(_M_MMAP_MAX, 65_536)  # glibc's default
                # glibc adjusts these two until somebody sets them: its own rule ends at 32 MiB, and twice as much.
                libc.mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
                libc.mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)
                libc.malloc_trim(0)
