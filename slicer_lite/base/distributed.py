"""Several processes that together compute what one would on the joined batch. In one process all of this is idle.

Started by `torchrun --nproc-per-node=N -m slicer_lite pretrain …`: each process has an N-th of every batch, and
all have the whole queue and memory. What a loss compares across clips is gathered.

Only what stands inside `processes` talks to others. A network in somebody else's distributed program is on its own
there, until that program shares a run: the others might not call it, and it would wait for them for ever.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.distributed.rendezvous import rendezvous

# For a process that decodes the clips, which may be millions, while the others wait. One that has ended is noticed
# long before, by the connection to it.
_PATIENCE = timedelta(days=1)
# NCCL has no such connection: there a process that does not answer in a step is given up after this time [ours].
_STEP = timedelta(minutes=10)
# All processes as a group on gloo, with the long patience: for `first_alone`. None outside `processes`.
_waiting: Any = None


def rank() -> int:
    """This process's number, from 0; 0 outside `processes`."""
    return 0 if _waiting is None else dist.get_rank()


def size() -> int:
    """How many processes there are; 1 outside `processes`."""
    return 1 if _waiting is None else dist.get_world_size()


def size_here() -> int:
    """How many of them are on this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", size())) if size() > 1 else 1


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun has started, if it has; yields the device of this one.

    Where the caller has joined processes already, they are taken as they are, and stay joined afterwards.

    Raises:
        ConnectionError: another process has ended, for a reason that it says itself; so all of them end.
    """
    global _waiting
    joined = dist.is_available() and dist.is_initialized()
    if _waiting is not None or not (joined or "RANK" in os.environ):
        yield device
        return
    if not joined:
        device = _join(device)
    try:
        _waiting = dist.new_group(backend="gloo", timeout=_PATIENCE)
        yield device
        dist.barrier(_waiting)  # nobody hangs up while another is still listening
    except Exception as error:
        # gloo's own are plain RuntimeErrors. (The word alone may be in the name of somebody's folder.)
        if isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo" in str(error)):
            raise ConnectionError(
                "Another process of this run has ended or does not answer: what it said itself is the reason. The "
                "same command goes on from the last checkpoint."
            ) from error
        get_error_handler().record_exception(error)  # torchrun repeats it at the end, as the root cause
        raise
    finally:
        waiting, _waiting = _waiting, None
        if not joined:
            dist.destroy_process_group()
        elif waiting is not None:
            dist.destroy_process_group(waiting)


def _join(device: torch.device) -> torch.device:
    """Join the processes that torchrun has started; the device of this one."""
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    place, number, count = _meeting_place()
    # Under a new name each time: what a run before this one has left there would be taken for this one's.
    place = dist.PrefixStore(f"run {next(_runs)}", place)
    backend = "nccl" if device.type == "cuda" else "gloo"
    patience = _STEP if backend == "nccl" else _PATIENCE
    dist.init_process_group(backend, store=place, rank=number, world_size=count, timeout=patience)
    return device


_runs = itertools.count()


@functools.cache
def _meeting_place() -> tuple[dist.Store, int, int]:
    """Where torchrun's processes find each other, this one's number, and how many there are."""
    return next(rendezvous("env://", timeout=_PATIENCE))


def mine(batch: Tensor) -> Tensor:
    """This process's part of a batch that all have drawn alike: the rank-th N-th of the first axis."""
    return batch.chunk(size())[rank()] if size() > 1 else batch


def gather(part: Tensor) -> Tensor:
    """The joined batch from the parts of all processes, without gradients: `(B / N, …)` -> `(B, …)`."""
    if size() == 1:
        return part
    parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(size())]
    dist.all_gather(parts, part.detach().contiguous())
    return torch.cat(parts)


def gather_with_gradient(part: Tensor) -> Tensor:
    """`gather`, through which gradients flow back to every process's part."""
    return part if size() == 1 else torch.cat(_Gather.apply(part))


class _Gather(torch.autograd.Function):
    """Each process sends the gradient of every part home, where they are summed.

    All processes compute the same loss from the joined batch, so a part's gradient comes N times too large;
    `average` over processes, which the instance loss needs anyway, sets that right.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, part: Tensor) -> tuple[Tensor, ...]:
        return gather(part).chunk(size())

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        every = torch.stack(gradients)
        dist.all_reduce(every)
        return every[rank()]


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their mean over all processes, in one message."""
    tensors = list(tensors)
    if size() == 1 or not tensors:
        return
    together = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(together)
    together /= size()
    for tensor, values in zip(tensors, together.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))


@torch.no_grad()
def same_everywhere(module: nn.Module) -> None:
    """Give every process the first one's weights and buffers."""
    if size() > 1:
        for tensor in module.state_dict().values():
            values = tensor.contiguous()
            dist.broadcast(values, 0)
            tensor.copy_(values)


def any_process(condition: bool) -> bool:
    """Whether it is true in at least one process."""
    if size() == 1:
        return condition
    flag = torch.tensor(float(condition), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes ahead, then the others: for work that leaves files behind for them."""
    if rank() > 0:
        dist.barrier(_waiting)
    yield
    if rank() == 0 and size() > 1:
        dist.barrier(_waiting)
