"""BYOL-A, whose encoder, mixing rule and crop SLICER takes: foretell what the teacher says, with no negatives [B].

Niizumi and others, *BYOL for Audio: self-supervised learning for general-purpose audio representation*, IJCNN 2021
(arXiv 2103.06695). There it goes with `mixing = "mixup"`, `projection_dim = 256`, `teacher_momentum = 0.99` and Adam
at 3e-4, batches of 256; with other settings left as they are, a comparison with SLICER is one of the losses alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from slicer_lite.config import Config
from slicer_lite.method.method import Method, Network, Panel, make_teacher, pairs


class BYOLAOutputs(NamedTuple):
    """What a network says of one view of a batch."""

    embedding: Tensor  # (B, dim)
    key: Tensor  # (B, projection_dim)


class BYOLANetwork(Network):
    """Encoder and projector."""

    def __init__(self, config: Config, encoder: Callable[[], Any] | None = None):
        super().__init__(config, encoder)
        self.projector = _perceptron(self.encoder.dim, 2 * self.encoder.dim, config.projection_dim)

    def forward(self, lms: Tensor) -> BYOLAOutputs:
        """Standardised log-mels `(B, 1, F, T)` -> embeddings and projections."""
        embedding = self.encoder.pool(self.encoder(lms))
        return BYOLAOutputs(embedding, self.projector(embedding).float())


class BYOLA(Method):
    """The student, through a predictor of its own, foretells the teacher's projection of the other view."""

    name = "byol_a"
    network = BYOLANetwork
    panels = (Panel("prediction loss", "", {"prediction": "prediction"}, low=0),)
    shared = ("student", "teacher", "predictor")

    def __init__(self, config: Config, encoder: Callable[[], Any] | None = None):
        super().__init__(config, encoder)
        self.predictor = _perceptron(
            config.projection_dim, 2 * self.student.encoder.dim, config.projection_dim
        )
        self.teacher = make_teacher(self.student)

    def step(
        self, view1: Tensor, view2: Tensor, clips: Tensor | None = None
    ) -> tuple[dict[str, Tensor], tuple[Any, Any, Any, Any]]:
        """As of `Method`; of which clip a row is plays no part."""
        answers = self.both(view1, view2)
        prediction = torch.stack([self._prediction(s.key, t.key) for s, t in pairs(*answers)]).sum()
        return {"total": prediction, "prediction": prediction}, answers

    def _prediction(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared distance of what is foretold from what comes, both of unit length: 0 to 4 [B]."""
        return (2 - 2 * cosine_similarity(self.predictor(student).float(), teacher, dim=1)).mean()


def _perceptron(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """Projector and predictor: hidden layers of 4,096 for d = 2,048 [B], so twice the embedding [ours]."""
    return nn.Sequential(
        nn.Linear(width_in, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, width_out)
    )
