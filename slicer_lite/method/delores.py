"""DeLoRes-M, the method that SLICER's abstract compares itself with: momentum contrast, and features decorrelated.

Ghosh, Seth, Umesh, *Decorrelating feature spaces for learning general-purpose audio representations*, IEEE JSTSP
2022; as released in LAPE [R]. There it goes with `mixing = "mixup"` and `symmetric = False`; with other settings
left as they are, a comparison with SLICER is one of the losses alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from slicer_lite.base import distributed
from slicer_lite.config import N_MELS, Config
from slicer_lite.method.encoder import Encoder
from slicer_lite.method.losses import decorrelation
from slicer_lite.method.method import Panel
from slicer_lite.method.moco import MoCo, MoCoNetwork


class DeLoResOutputs(NamedTuple):
    """What a network says of one view of a batch."""

    embedding: Tensor  # (B, dim)
    key: Tensor  # (B, projection_dim), of unit length
    blocks: tuple[Tensor, ...]  # (B, channels x 32), (B, channels x 16), (B, channels x 8)


class DeLoResNetwork(MoCoNetwork):
    """Encoder and instance head, and what the encoder's three blocks say on the way, averaged over time."""

    def __init__(self, config: Config, encoder: Callable[[], Any] | None = None):
        super().__init__(config, encoder)
        if not isinstance(self.encoder, Encoder):
            raise ValueError("delores_m compares the three blocks of AudioNTT: it takes no other encoder.")

    def forward(self, lms: Tensor) -> DeLoResOutputs:
        blocks = self.encoder.blocks(lms)
        embedding = self.encoder.pool(self.encoder.frames(blocks[-1]))
        return DeLoResOutputs(embedding, self.key(embedding), tuple(x.mean(-1).flatten(1) for x in blocks))


class DeLoResM(MoCo):
    """The baseline. To the `instance` part comes `decorrelation`, the sum over the encoder's three blocks."""

    name = "delores_m"
    network = DeLoResNetwork
    weights = ("instance_weight", "decorrelation_weight")
    panels = (*MoCo.panels, Panel("decorrelation loss", "", {"decorrelation": "decorrelation"}))

    def __init__(self, config: Config, encoder: Callable[[], Any] | None = None):
        super().__init__(config, encoder)
        # One for each block, for student and teacher alike; as wide as the embedding (both 2,048 [R]).
        rows = (N_MELS // 2, N_MELS // 4, N_MELS // 8)
        self.projectors = nn.ModuleList(_projector(config.channels * r, config.dim) for r in rows)

    def _losses(self, directions: list[tuple[Any, Any]], mask: Tensor) -> dict[str, Tensor]:
        config = self.config
        parts = super()._losses(directions, mask)
        if not config.decorrelation_weight:
            return parts
        # The correlation is over the whole batch, so processes join theirs.
        decorrelations = [
            decorrelation(projector(distributed.gather_with_gradient(s)), projector(distributed.gather(t)))
            for student, teacher in directions
            for projector, s, t in zip(self.projectors, student.blocks, teacher.blocks, strict=True)
        ]
        parts["decorrelation"] = decorrelated = torch.stack(decorrelations).sum()
        parts["total"] = parts["total"] + config.decorrelation_weight * decorrelated
        return parts


def _projector(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width_in, width, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width, bias=False),
    )
