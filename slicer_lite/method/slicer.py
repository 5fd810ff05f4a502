"""SLICER: momentum contrast, and the same again for clusters: the symmetric loss [P]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from slicer_lite.base import distributed
from slicer_lite.base.shapes import Float
from slicer_lite.config import Config
from slicer_lite.method.losses import cluster_contrast, negative_entropy
from slicer_lite.method.method import Panel, heard
from slicer_lite.method.moco import MoCo, MoCoNetwork


class SLICEROutputs(NamedTuple):
    """What a network says of one view of a batch."""

    embedding: Tensor  # (B, dim)
    key: Tensor  # (B, projection_dim), of unit length
    assignment: Tensor  # (B, M), rows sum to 1


class SLICERNetwork(MoCoNetwork):
    """Encoder, instance head and cluster head."""

    def __init__(self, config: Config, encoder: Callable[[], Any] | None = None):
        super().__init__(config, encoder)
        dim = self.encoder.dim
        self.cluster_head = nn.Sequential(  # [R][C]
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, config.clusters)
        )

    def forward(self, lms: Tensor) -> SLICEROutputs:
        """Standardised log-mels `(B, 1, F, T)` -> embeddings, keys and soft assignments."""
        embedding = self.encoder.pool(self.encoder(lms))
        return SLICEROutputs(embedding, self.key(embedding), self.assign(embedding))

    def assign(self, embedding: Float[Tensor, "N dim"]) -> Float[Tensor, "N M"]:
        """Soft assignment of embeddings to clusters: rows sum to 1."""
        return self.cluster_head(embedding).float().softmax(1)


class SLICER(MoCo):
    """The method of the paper. To the `instance` part come `cluster` and `entropy`."""

    name = "slicer"
    network = SLICERNetwork
    weights = ("instance_weight", "cluster_weight")
    panels = (
        *MoCo.panels,
        # Apart from the instance loss, beside which it moves too little to be seen.
        Panel("cluster loss", "nats", {"cluster": "cluster"}),
        Panel(
            "clusters",
            "share",
            {"clusters_used": "in use", "cluster_entropy": "entropy", "confidence": "confidence"},
            low=0,
            high=1,
        ),
    )

    def watched(self, s1: Any, s2: Any, t1: Any, t2: Any) -> dict[str, Tensor]:
        """As of `Method`; of clusters that nothing trains nothing is said, since it would raise false alarms."""
        watched = super().watched(s1, s2, t1, t2)
        if self.config.cluster_weight:
            watched["assignment"] = heard(s1, s2, t1, t2)[0].assignment.detach()
        return watched

    def _losses(self, directions: list[tuple[Any, Any]], mask: Tensor) -> dict[str, Tensor]:
        config = self.config
        parts = super()._losses(directions, mask)
        if not config.cluster_weight:
            return parts
        # A column holds the whole batch, so processes join theirs.
        columns = [
            (distributed.gather_with_gradient(s.assignment), distributed.gather(t.assignment))
            for s, t in directions
        ]
        contrast = torch.stack([cluster_contrast(p, q, config.cluster_temperature) for p, q in columns]).sum()
        parts["cluster"] = cluster = contrast
        if config.entropy_weight:
            entropy = torch.stack([negative_entropy(p) + negative_entropy(q) for p, q in columns]).sum()
            parts["entropy"] = entropy
            cluster = contrast + config.entropy_weight * entropy
        parts["total"] = parts["total"] + config.cluster_weight * cluster
        return parts
