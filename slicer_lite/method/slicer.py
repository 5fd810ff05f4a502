"""SLICER: momentum contrast, and the same again for clusters: the symmetric loss [P]."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from slicer_lite.base import distributed
from slicer_lite.config import Config
from slicer_lite.method import moco
from slicer_lite.method.encoder import Encoder
from slicer_lite.method.losses import cluster_contrast, negative_entropy


class Outputs(NamedTuple):
    """What a network says of one view of a batch."""

    embedding: Tensor  # (B, dim)
    key: Tensor  # (B, projection_dim), length 1
    assignment: Tensor  # (B, M), rows sum to 1


class Network(moco.Network):
    """Encoder, instance head and cluster head. Student and teacher are one of these each."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.cluster_head = nn.Sequential(  # [R][C]
            nn.Linear(config.dim, config.dim), nn.ReLU(), nn.Linear(config.dim, config.clusters)
        )

    def forward(self, lms: Tensor) -> Outputs:
        """Standardised log-mels `(B, 1, F, T)` -> embeddings, keys and soft assignments."""
        embedding = Encoder.pool(self.encoder(lms))
        return Outputs(embedding, self.key(embedding), self.assign(embedding))

    def assign(self, embedding: Tensor) -> Tensor:
        """Soft assignment of embeddings to clusters: `(N, dim)` -> `(N, M)`."""
        return self.cluster_head(embedding).float().softmax(1)


class SLICER(moco.MoCo):
    """The model that is pre-trained: `loss` is one whole step of the method, as in `MoCo`.

    To the `instance` part come `cluster` and `entropy`.
    """

    network = Network

    def _losses(self, pairs: list[tuple[Outputs, Outputs]], mask: Tensor) -> dict[str, Tensor]:
        config = self.config
        parts = super()._losses(pairs, mask)
        if not config.cluster_weight:
            return parts
        # A column holds the whole batch, so processes join theirs.
        columns = [
            (distributed.gather_with_gradient(s.assignment), distributed.gather(t.assignment))
            for s, t in pairs
        ]
        contrast = torch.stack([cluster_contrast(p, q, config.cluster_temperature) for p, q in columns]).sum()
        parts["cluster"] = cluster = contrast
        if config.entropy_weight:
            entropy = torch.stack([negative_entropy(p) + negative_entropy(q) for p, q in columns]).sum()
            parts["entropy"] = entropy
            cluster = contrast + config.entropy_weight * entropy
        parts["total"] = parts["total"] + config.cluster_weight * cluster
        return parts
