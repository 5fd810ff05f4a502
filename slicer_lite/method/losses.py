"""The losses as pure functions of tensors: SLICER's two, and the one of the baseline DeLoRes-M."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, cross_entropy, normalize

from slicer_lite.base.shapes import Bool, Float
from slicer_lite.method.fast import Contrast


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
    query: Float[Tensor, "B D"],
    key: Float[Tensor, "B D"],
    queue: Float[Tensor, "Q D"],
    temperature: float,
    mask: Bool[Tensor, " Q"] | Bool[Tensor, "B Q"] | None = None,
) -> Float[Tensor, ""]:
    """Instance loss: find one's own key among the queue's [M].

    `-log( exp(q.k / T) / (exp(q.k / T) + sum_j exp(q.n_j / T)) )`, averaged over the batch.

    Gradients reach the query alone: keys are the teacher's.

    Shape: query `(B, D)`, key `(B, D)`, queue `(Q, D)`, all of length 1; mask, `(Q,)` or `(B, Q)` bool, is True
    where a queue entry does not count as a negative (an empty place, or the clip's own key).
    """
    # Divided here, since (B, Q) is large.
    return Contrast.apply(query / temperature, key, queue, mask).mean()


@_in_single_precision
def cluster_contrast(
    p: Float[Tensor, "N M"], q: Float[Tensor, "N M"], temperature: float
) -> Float[Tensor, ""]:
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
def negative_entropy(p: Float[Tensor, "N M"]) -> Float[Tensor, ""]:
    """How far the mean assignment is from using all clusters evenly: `sum_i p_i log p_i + log M` [C].

    0 when all M clusters are used alike, log M when everything is in one: it discourages that collapse.

    Shape: p `(N, M)` soft assignments.
    """
    mean = p.mean(0)
    # Of a cluster in which no clip has a share the term is 0, and its gradient, which would be 0 / 0, too.
    return torch.xlogy(mean, mean.where(mean > 0, 1)).sum() + math.log(p.shape[1])


@_in_single_precision
def decorrelation(x: Float[Tensor, "B D"], y: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """How far the cross-correlation of two views' features is from the identity: `5e-5 / 32 |C - I|^2` [R].

    `C_ij` is the correlation over the batch of feature i of x with feature j of y: the diagonal should be 1 (a
    feature is the same in both views), and the rest 0 (no feature repeats another).

    Shape: x, y `(B, D)`, standardised here over the batch (deviation with 1e-5 added to the variance, as a batch
    norm without affine parameters does).
    """
    x, y = (batch_norm(z.float(), None, None, training=True) for z in (x, y))
    correlation = x.T @ y / len(x)  # (D, D)
    return 5e-5 / 32 * (correlation - torch.eye(x.shape[1], device=x.device)).square().sum()
