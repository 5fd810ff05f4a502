"""k-mix: mix every input with a partner that is as unlike it as a memory of recent inputs allows [P], [R].

Unlike is meant in terms of a few clusters of time-averaged spectra: the partner comes from the cluster whose
centroid lies farthest from that of the input's own. No labels are needed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from slicer_lite.base.shapes import Bool, Float, Int
from slicer_lite.config import FRAMES, N_MELS


def fit_centroids(
    time_means: Float[Tensor, "N F"], k: int = 4, iterations: int = 20, seed: int = 0
) -> Float[Tensor, "{k} F"]:
    """Spherical k-means: vectors and centroids have length 1, closeness is the cosine [R].

    Args:
        time_means: `(N, F)` standardised log-mels averaged over time.
        k: number of clusters (4 [R]).
        iterations: rounds of assigning and averaging (20 [R]).

    Returns:
        `(k, F)` centroids of length 1. A centroid that loses all its members stays where it was.

    Raises:
        ValueError: fewer vectors than clusters, or vectors that are not finite.
    """
    if time_means.ndim != 2 or len(time_means) < k:
        raise ValueError(f"k-means with k = {k} needs at least {k} vectors, got {tuple(time_means.shape)}.")
    if not time_means.isfinite().all():
        raise ValueError("k-means got values that are not finite (NaN or infinity): check the recordings.")
    points = normalize(time_means.float(), dim=1)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randperm(len(points), generator=generator)[:k].to(points.device)
    centroids = points[start]
    for _ in range(iterations):
        nearest = (points @ centroids.T).argmax(1)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=k)
        centroids = torch.where(counts[:, None] > 0, normalize(sums, dim=1), centroids)
    return centroids


def mix(
    x: Float[Tensor, " B *shape"],
    z: Float[Tensor, " B *shape"],
    weight_of_z: Float[Tensor, " B"] | Float[Tensor, ""] | float,
    scale: float = 1.0,
) -> Float[Tensor, " B *shape"]:
    """Mix log-mels in the linear domain: `log((1 - a) exp(x) + a exp(z))` [B], [R].

    Args:
        x, z: log-mels of one shape, first axis B; where they differ, by less than 88 / scale.
        weight_of_z: a, one number or `(B,)`, from 0 (x alone) to 1 (z alone).
        scale: the deviation that x and z were divided by, if the mixture is to be one of power spectra; 1
            mixes them as they are, which for standardised inputs is the released code's way.
    """
    a = torch.as_tensor(weight_of_z, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.ndim - 1))
    # Written as x + log(1 - a + a exp(z - x)) and in place, which takes a quarter of the formula's time and
    # returns x exactly where a is 0.
    mixed = z - x
    if scale != 1:
        mixed *= scale
    mixed.exp_().mul_(a).add_(1 - a).log_()
    if scale != 1:
        mixed /= scale
    return mixed.add_(x)


class KMix(nn.Module):
    """A memory of the most recent inputs, and the rule that picks a partner from it.

    Args:
        centroids: `(K, F)` of `fit_centroids`. One centroid makes it plain mixup: any partner.
        memory: inputs remembered, first in, first out (2,048 [B], [R]).
        ratio: the partner's weight is uniform in [0, ratio] (0.4 [B]).
        top_k: the partner is one of the `top_k` most recent members of its cluster (128 [R]; recent [ours]).
        scale: see `mix`.
        frames: T of the inputs.
    """

    centroids: Tensor
    memory: Tensor
    memory_cluster: Tensor
    pushed: Tensor

    def __init__(
        self,
        centroids: Tensor,
        memory: int = 2048,
        ratio: float = 0.4,
        top_k: int = 128,
        scale: float = 1.0,
        frames: int = FRAMES,
    ):
        super().__init__()
        if centroids.ndim != 2:
            raise ValueError(f"centroids must be (K, F), got {tuple(centroids.shape)}.")
        if memory < 1 or top_k < 1 or not 0 <= ratio <= 1:
            raise ValueError(
                f"memory = {memory}, top_k = {top_k}, ratio = {ratio}: memory and top_k must be at least 1, "
                "ratio from 0 to 1."
            )
        self.ratio, self.top_k, self.scale = ratio, top_k, scale
        self.register_buffer("centroids", normalize(centroids.float(), dim=1))
        # The memory is no part of a checkpoint: it can be filled anew with the inputs of the last steps.
        self.register_buffer(
            "memory", torch.zeros(memory, centroids.shape[1], frames), persistent=False
        )  # (Q, F, T)
        self.register_buffer("memory_cluster", torch.full((memory,), -1), persistent=False)  # (Q,), -1: empty
        self.register_buffer("pushed", torch.tensor(0), persistent=False)  # ever; the next slot is pushed % Q

    def assign(self, time_mean: Float[Tensor, "B F"]) -> Int[Tensor, " B"]:
        """The cluster with the closest centroid: `(B, F)` -> `(B,)`."""
        return (normalize(time_mean.float(), dim=1) @ self.centroids.T).argmax(1)

    @property
    def partner_order(self) -> Int[Tensor, "K K"]:
        """For each cluster all of them, the farthest first: `(K, K)`."""
        # Not kept, so that it is that of the centroids also after others have been loaded.
        return torch.cdist(self.centroids, self.centroids).argsort(dim=1, descending=True, stable=True)

    def partner_cluster(self) -> Int[Tensor, " K"]:
        """For each cluster the farthest one that has a member in the memory: `(K,)`; any, if it is empty."""
        order = self.partner_order
        present = self._counts()[order] > 0  # (K, K), farthest first
        first = present.int().argmax(1, keepdim=True)
        return order.gather(1, first).squeeze(1)

    def candidates(self, time_mean: Float[Tensor, "B F"]) -> Bool[Tensor, "B Q"]:
        """All members of each input's partner cluster, before `top_k`: `(B, F)` -> `(B, memory)` bool.

        The memory's places are in the order in which they were filled.
        """
        wanted = self.partner_cluster()[self.assign(time_mean)]
        return wanted[:, None] == self.memory_cluster

    def partners(self, lms: Float[Tensor, "B 1 F T"], draw: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
        """The memory place of each input's partner, given draws from U[0, 1): `(B, 1, F, T)`, `(B,)` -> `(B,)`.

        Meaningless while the memory is empty.
        """
        cluster = self.partner_cluster()[self.assign(lms.mean(-1).flatten(1))]  # (B,)
        # All places sorted by cluster, within a cluster from the most recent to the oldest: the candidates of
        # a cluster are then neighbours, and drawing one is arithmetic. No loop over clips or clusters.
        size = len(self.memory)
        recent_first = (self.pushed - 1 - torch.arange(size, device=lms.device)) % size
        # 16-bit keys sort several times faster than 64-bit ones.
        key = self.memory_cluster[recent_first].to(torch.int16)
        by_cluster = recent_first[key.argsort(stable=True)]
        counts = self._counts()
        begin = counts.cumsum(0) - counts + (size - counts.sum())  # empty places (-1) come first
        choice = (draw * counts[cluster].clamp(max=self.top_k)).long()
        return by_cluster[(begin[cluster] + choice).clamp(max=size - 1)]

    def forward(
        self,
        lms: Float[Tensor, "B 1 F T"],
        generator: torch.Generator | None = None,
        draws: Float[Tensor, "B 2"] | None = None,
    ) -> Float[Tensor, "B 1 F T"]:
        """Mix each input with a partner from the memory: `(B, 1, F, T)` -> `(B, 1, F, T)`.

        With an empty memory the inputs pass unmixed. The memory is only read; `push` adds to it.

        Args:
            lms: standardised log-mels.
            generator: to draw partners and ratios with; the global one by default.
            draws: `(B, 2)` from U[0, 1), for partner and ratio, if they have been drawn already.
        """
        if draws is None:
            draws = torch.rand(len(lms), 2, generator=generator)
        which, ratio = draws.to(lms.device).unbind(1)
        partner = self.memory.index_select(0, self.partners(lms, which)).unsqueeze(1)  # (B, 1, F, T)
        return mix(lms, partner, self.ratio * ratio * (self.pushed > 0), self.scale)

    @torch.no_grad()
    def push(self, lms: Float[Tensor, "B 1 F T"]) -> None:
        """Put the unmixed inputs `(B, 1, F, T)` into the memory, in place of the oldest."""
        size = len(self.memory)
        place = (self.pushed + torch.arange(len(lms), device=lms.device)) % size
        kept, place = lms[-size:], place[-size:]  # of a batch larger than the memory, the last ones
        self.memory[place] = kept.squeeze(1).to(self.memory.dtype)
        self.memory_cluster[place] = self.assign(kept.mean(-1).flatten(1))
        self.pushed += len(lms)

    def _counts(self) -> Tensor:
        """Members of each cluster in the memory: `(K,)`."""
        counts = torch.zeros(len(self.centroids) + 1, dtype=torch.long, device=self.centroids.device)
        counts.index_add_(0, self.memory_cluster + 1, torch.ones_like(self.memory_cluster))
        return counts[1:]


def single_centroid(n_mels: int = N_MELS) -> Tensor:
    """The centroid that turns `KMix` into plain mixup: one cluster, to which everything belongs."""
    return torch.zeros(1, n_mels)
