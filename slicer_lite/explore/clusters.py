"""Who is in which cluster, and what the clusters are about: usage, purity, NMI, typical clips; who is near whom.

Labels are only looked at here, after training. Clips without a label (`''`) are left out of every comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import normalized_mutual_info_score
from sklearn.neighbors import NearestNeighbors
from torch import nn

from slicer_lite.config import Config


class Trained(Protocol):
    """What is asked of a trained network here: `slicer_lite.load` gives one."""

    @property
    def network(self) -> nn.Module: ...

    @property
    def config(self) -> Config: ...


def has_clusters(pretrained: Trained) -> bool:
    """Whether its network assigns embeddings to clusters: not every method's does."""
    return hasattr(pretrained.network, "assign")


@torch.no_grad()
def soft_assignments(pretrained: Trained, embeddings: np.ndarray) -> np.ndarray:
    """How much each clip belongs to each cluster: `(N, dim)` embeddings -> `(N, M)`, rows sum to 1.

    Raises:
        ValueError: the weights were trained by a method without clusters, or the embeddings are not of their size.
    """
    if not has_clusters(pretrained):
        raise ValueError(f"These weights have no clusters: their method is {pretrained.config.method}.")
    network: Any = pretrained.network
    dim = network.encoder.dim
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise ValueError(f"Embeddings must be (N, {dim}), got {embeddings.shape}.")
    return network.assign(torch.from_numpy(embeddings).to(next(network.parameters()))).cpu().numpy()


def usage(assignment: np.ndarray) -> np.ndarray:
    """`(M,)` how many clips have each cluster as their first choice, of `(N, M)` assignments."""
    return np.bincount(assignment.argmax(1), minlength=assignment.shape[1])


def purity(clusters: Sequence[Any] | np.ndarray, labels: Sequence[Any] | np.ndarray) -> float:
    """Share of the clips that carry the most frequent label of their cluster; both `(N,)`.

    From the share of the largest class (one cluster) to 1 (no cluster holds two labels). It rises with the
    number of clusters, to 1 where each clip has its own: compare it with what shuffled labels give.
    """
    counts = _crossed(clusters, labels).to_numpy()
    return float(counts.max(1).sum() / counts.sum())


def nmi(clusters: Sequence[Any] | np.ndarray, labels: Sequence[Any] | np.ndarray) -> float:
    """Normalised mutual information of clusters and labels, both `(N,)`: 0 unrelated, 1 the same partition.

    Mutual information over the arithmetic mean of the two entropies (scikit-learn's default).
    """
    clusters, labels = _labelled(clusters, labels)
    return float(normalized_mutual_info_score(labels, clusters))


def contents(clusters: Sequence[Any] | np.ndarray, labels: Sequence[Any] | np.ndarray) -> pd.DataFrame:
    """What each cluster holds, the largest first: columns `clips`, most frequent `label`, its `share`."""
    counts = _crossed(clusters, labels)
    size = counts.sum(axis=1)
    table = pd.DataFrame(
        {"clips": size, "label": counts.idxmax(axis=1), "share": counts.max(axis=1) / size}
    ).rename_axis("cluster")
    return table.sort_values("clips", ascending=False, kind="stable")


def typical(assignment: np.ndarray, cluster: int, count: int = 1) -> np.ndarray:
    """The members of a cluster that belong to it most, the most typical first: `count` clip numbers."""
    members = _members(assignment, cluster)
    return members[np.argsort(-assignment[members, cluster], kind="stable")][:count]


def uncertain(assignment: np.ndarray, cluster: int, count: int = 1) -> np.ndarray:
    """The members of a cluster that belong to it least, the least certain first: `count` clip numbers."""
    return typical(assignment, cluster, len(assignment))[::-1][:count]


def nearest(queries: np.ndarray, embeddings: np.ndarray, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings most like each query: `(Q, D)`, `(N, D)` -> `(Q, count)` places and their cosines.

    The most alike come first.

    Raises:
        ValueError: more are wanted than there are.
    """
    if not 1 <= count <= len(embeddings):
        raise ValueError(
            f"count = {count}: it must be from 1 to the number of embeddings, {len(embeddings)}."
        )
    index = NearestNeighbors(n_neighbors=count, metric="cosine").fit(embeddings)
    distances, places = index.kneighbors(queries)
    return places, 1 - distances


def umap_map(
    embeddings: np.ndarray, seed: int = 0, neighbours: int = 15, start: np.ndarray | None = None
) -> np.ndarray:
    """A flat map on which neighbours stay neighbours: `(N, D)` -> `(N, 2)` by UMAP (arXiv 1802.03426).

    Distances are cosines. With a seed the map is the same each time, on one thread. Only nearness means
    something on it: neither the axes nor the distances between far groups do.

    Args:
        start: `(N, 2)` where the points begin, such as the map of the same clips at another step: what both maps
            agree on then stays in its place. UMAP's own (spectral) start by default.

    Raises:
        ValueError: fewer clips than neighbours.
        ModuleNotFoundError: umap-learn is not installed (`pip install 'slicer-lite[notebooks]'`).
    """
    if len(embeddings) <= neighbours:
        raise ValueError(
            f"A map with {neighbours} neighbours needs more than {neighbours} clips, got {len(embeddings)}."
        )
    from umap import UMAP  # here, because importing it takes seconds

    init = "spectral" if start is None else start
    mapper = UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1, init=init)
    return np.asarray(mapper.fit_transform(embeddings), dtype=np.float32)


def _members(assignment: np.ndarray, cluster: int) -> np.ndarray:
    members = np.flatnonzero(assignment.argmax(1) == cluster)
    if not len(members):
        raise ValueError(f"Cluster {cluster} is no clip's first choice: see `usage` for those that are.")
    return members


def _labelled(
    clusters: Sequence[Any] | np.ndarray, labels: Sequence[Any] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, without the clips that have no label."""
    clusters, labels = np.asarray(clusters), np.asarray(labels)
    labels = np.where(pd.isna(labels), "", labels.astype(object))
    if clusters.ndim != 1 or clusters.shape != labels.shape:
        raise ValueError(
            f"Clusters and labels must be (N,) each, got shapes {clusters.shape} and {labels.shape}."
        )
    has_label = labels.astype(str) != ""
    if not has_label.any():
        raise ValueError("No clip has a label: there is nothing to compare the clusters with.")
    return clusters[has_label], labels[has_label].astype(str)


def _crossed(clusters: Sequence[Any] | np.ndarray, labels: Sequence[Any] | np.ndarray) -> pd.DataFrame:
    """How many clips there are of each label (columns) in each cluster (rows)."""
    clusters, labels = _labelled(clusters, labels)
    return pd.crosstab(clusters, labels)
