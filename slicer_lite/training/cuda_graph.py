"""A function replayed as one CUDA graph: all of its work is asked for at once, not kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_WARMUPS = 3  # calls before it is recorded: libraries choose their kernels, optimisers make their state


class Replayed:
    """`work(inputs)` on a GPU, recorded at its fourth call and replayed from then on.

    A training step is some 1,100 small kernels, and asking for them one by one takes longer than they do.

    Args:
        work: takes and returns tensors in tuples, dicts or lists. What it does must be the same for all inputs of
            one shape, without waiting for the GPU; what it changes must be changed in place. Random numbers drawn
            on the GPU are new in each replay.
        device: a CUDA device.
    """

    def __init__(self, work: Callable[[Any], Any], device: torch.device):
        self.work, self.device = work, device
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(device)  # a graph cannot be recorded on the default one

    def __call__(self, inputs: Any) -> Any:
        """The result's tensors are overwritten by the next call."""
        inputs = pytree.tree_map_only(Tensor, lambda x: x.to(self.device, non_blocking=True), inputs)
        if self._graph is None:
            if self._calls < _WARMUPS:
                self._calls += 1
                return self._on_own_stream(inputs)
            self._inputs = pytree.tree_map_only(Tensor, torch.clone, inputs)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._result = self.work(self._inputs)
        for place, value in zip(pytree.tree_leaves(self._inputs), pytree.tree_leaves(inputs), strict=True):
            if place is not None:
                place.copy_(value)
        self._graph.replay()
        return self._result

    def _on_own_stream(self, inputs: Any) -> Any:
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = self.work(inputs)
        current.wait_stream(self._stream)
        return result
