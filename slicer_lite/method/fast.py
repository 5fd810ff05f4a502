"""Rewrites of what encoder.py and losses.py say in plain words: the same numbers, only faster.

What each buys, measured (docs/experiments.md, section 7, has the settings):

- `InputBlock`, a batch norm folded into the filters: without it the whole encoder, forwards and backwards, took 1.24
  times as long with 32 channels, 1.5 times with 64.
- `neighbourhoods`, sums over 4 x 4 places instead of 3 x 3: 50 MB instead of 113, on a CPU 9 ms instead of 15 a batch
  of 256.
- `pooled_product`, convolution and pooling as one matrix product: on a CPU without bf16 a step of tiny took 1.6 s
  instead of 2.1, of small 4.0 instead of 5.3; on an H100 the block 4.6 ms instead of 8.8, compiled 1.6.
- `Contrast`, the queue part by part, the gradient in the same pass: with 128 queries and 65,536 keys one thread took
  96 ms, `cross_entropy` of all similarities 214.

Plain PyTorch of the same is in plain.py, which the tests hold them to.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, pad

from slicer_lite.base import distributed


class InputBlock(nn.Sequential):
    """The first block: the same layers and numbers, with the batch norm folded into the convolution.

    Its input has one channel, so the mean and variance of what each filter w gives follow from the mean m and the
    covariance C of the input's 3 x 3 neighbourhoods: w m and w C w. The batch norm, a scale and a shift by them, then
    becomes part of the filter, and its own passes over the largest tensor of the network are spared.
    """

    def forward(self, lms: Tensor) -> Tensor:
        convolution, norm = cast(Any, self[0]), cast(Any, self[1])
        pool, relu = self[2:]
        # In single precision also where the rest is not: statistics are sums over millions of values.
        with torch.autocast(lms.device.type, enabled=False):
            filters = convolution.weight.flatten(1)  # (C, 9)
            if norm.training:
                mean, covariance, places = neighbourhoods(lms)
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
            return relu(pooled_product(lms, filters, shift))
        # Of a few clips at a time the values stay in the cache. Under bf16 it was not measured.
        if device == "cpu" and not torch.is_autocast_enabled(device) and not _is_recorded():
            return torch.cat([relu(pooled_product(some, filters, shift)) for some in lms.split(4)])
        return relu(pool(conv2d(lms, filters, shift, padding=1)))


def _is_recorded() -> bool:
    """Whether this call becomes a program, which must then do for any number of clips."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def pooled_product(lms: Tensor, filters: Tensor, shift: Tensor) -> Tensor:
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


def neighbourhoods(lms: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean `(9,)` and covariance `(9, 9)` of all 3 x 3 neighbourhoods of a batch `(B, 1, F, T)`, and their number.

    Of the joined batch, where several processes share one.
    """
    padded = pad(lms[:, 0], (1, 1, 1, 1))
    total = products = torch.zeros((), device=lms.device)
    # Sums over 4 x 4 neighbourhoods, of which each holds four of 3 x 3: less than half of the memory and the work. On
    # a CPU a few clips at a time, whose neighbourhoods stay in the cache.
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


_PART = 2048  # keys of the queue at once on a CPU


class Contrast(torch.autograd.Function):
    """`logsumexp(q.k, q.n_1, …, q.n_Q) - q.k` of each query, part by part of the queue.

    Its gradient, the keys' mean weighted by their softmax minus the positive key, is summed in the same pass, so that
    no `(B, Q)` matrix is kept, nor the queue. On a CPU a part's similarities stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, queue: Tensor, mask: Tensor | None) -> Tensor:
        positive = (query * key).sum(1, keepdim=True)
        # Of the keys so far, beginning with the positive one: the highest similarity; their softmax's denominator and
        # its numerator times the keys, both relative to the highest.
        highest, total, mean = positive, torch.ones_like(positive), key
        size = _PART if query.device.type == "cpu" else max(len(queue), 1)
        for start in range(0, len(queue), size):
            keys = queue[start : start + size]
            similarity = query @ keys.T
            if mask is not None:
                similarity.masked_fill_(mask[..., start : start + size], -math.inf)
            before, highest = highest, torch.maximum(highest, similarity.amax(1, keepdim=True))
            weights = similarity.sub_(highest).exp_()
            rescale = (before - highest).exp()
            total = total * rescale + weights.sum(1, keepdim=True)
            mean = torch.addmm(mean * rescale, weights, keys)
        ctx.save_for_backward(mean / total - key)
        return (highest + total.log() - positive).squeeze(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient[:, None] * slope, None, None, None
