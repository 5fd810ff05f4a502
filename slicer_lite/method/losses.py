"""The losses as pure functions of tensors: SLICER's two, and the one of the baseline DeLoRes-M."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, cross_entropy, normalize


def _in_single_precision(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Computed so also where the networks run in half precision: small temperatures magnify what rounding takes."""

    def single(x: Any) -> Any:
        return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x

    @wraps(loss)
    def wrapped(*given: Tensor | float | None, **named: Tensor | float | None) -> Tensor:
        given, named = tuple(map(single, given)), {name: single(x) for name, x in named.items()}
        device = next(x.device for x in (*given, *named.values()) if isinstance(x, Tensor))
        with torch.autocast(device.type, enabled=False):
            return loss(*given, **named)

    return wrapped


@_in_single_precision
def info_nce(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float, mask: Tensor | None = None
) -> Tensor:
    """Instance loss: find one's own key among the queue's [M].

    `-log( exp(q.k / T) / (exp(q.k / T) + sum_j exp(q.n_j / T)) )`, averaged over the batch.

    Gradients reach the query alone: keys are the teacher's.

    Shape: query `(B, D)`, key `(B, D)`, queue `(Q, D)`, all of length 1; mask, `(Q,)` or `(B, Q)` bool, is True
    where a queue entry does not count as a negative (an empty place, or the clip's own key).
    """
    # Divided here, since (B, Q) is large.
    return _Contrast.apply(query / temperature, key, queue, mask).mean()


_PART = 2048  # keys of the queue at once on a CPU


class _Contrast(torch.autograd.Function):
    """`logsumexp(q.k, q.n_1, …, q.n_Q) - q.k` of each query, part by part of the queue.

    Its gradient, the keys' mean weighted by their softmax minus the positive key, is summed in the same pass, so that
    no `(B, Q)` matrix is kept, nor the queue. On a CPU a part's similarities stay in the cache: 2.2 times as fast as
    `cross_entropy` of all of them with 128 queries and 65,536 keys.
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


@_in_single_precision
def cluster_contrast(p: Tensor, q: Tensor, temperature: float) -> Tensor:
    """Cluster loss: a cluster's column in one view should resemble its column in the other, and no other [C].

    The N x M assignments are read by columns. Column i of p and column i of q are positives, the other 2M - 2
    columns of both are negatives; similarity is the cosine; the cross-entropy is averaged over 2M columns.

    Shape: p, q `(N, M)` soft assignments, rows sum to 1.
    """
    clusters = p.shape[1]
    columns = normalize(torch.cat([p, q], dim=1).T, dim=1)  # (2M, N)
    logits = columns @ columns.T / temperature  # (2M, 2M)
    logits = logits.masked_fill(torch.eye(2 * clusters, dtype=torch.bool, device=p.device), -math.inf)
    target = torch.arange(2 * clusters, device=p.device).roll(clusters)  # i <-> i + M
    return cross_entropy(logits, target)


@_in_single_precision
def negative_entropy(p: Tensor) -> Tensor:
    """How far the mean assignment is from using all clusters evenly: `sum_i p_i log p_i + log M` [C].

    0 when all M clusters are used alike, log M when everything is in one: it discourages that collapse.

    Shape: p `(N, M)` soft assignments.
    """
    mean = p.mean(0)
    # Of a cluster in which no clip has a share the term is 0, and its gradient, which would be 0 / 0, too.
    return torch.xlogy(mean, mean.where(mean > 0, 1)).sum() + math.log(p.shape[1])


@_in_single_precision
def decorrelation(x: Tensor, y: Tensor) -> Tensor:
    """How far the cross-correlation of two views' features is from the identity: `5e-5 / 32 |C - I|^2` [R].

    `C_ij` is the correlation over the batch of feature i of x with feature j of y: the diagonal should be 1 (a
    feature is the same in both views), and the rest 0 (no feature repeats another).

    Shape: x, y `(B, D)`, standardised here over the batch (deviation with 1e-5 added to the variance, as a batch
    norm without affine parameters does).
    """
    x, y = (batch_norm(z.float(), None, None, training=True) for z in (x, y))
    correlation = x.T @ y / len(x)  # (D, D)
    return 5e-5 / 32 * (correlation - torch.eye(x.shape[1], device=x.device)).square().sum()
