"""Momentum contrast: a teacher that follows the student, a queue of its keys, and the instance loss [M]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from slicer_lite.base import distributed
from slicer_lite.base.shapes import Float, Int
from slicer_lite.config import Config
from slicer_lite.method.losses import info_nce
from slicer_lite.method.method import Method, Network, Panel, make_teacher, pairs

NO_CLIP = -1  # the clip id of an empty place in the queue
UNKNOWN_CLIP = -2  # of a key whose clip was not named
_ID_BITS = 2**63 - 1  # of a clip's id, all but the sign


class MoCoOutputs(NamedTuple):
    """What a network says of one view of a batch. Methods that compare more have more fields."""

    embedding: Tensor  # (B, dim)
    key: Tensor  # (B, projection_dim), of unit length


class MoCoNetwork(Network):
    """Encoder and instance head."""

    def __init__(self, config: Config, encoder: Callable[[], Any] | None = None):
        super().__init__(config, encoder)
        dim = self.encoder.dim
        last = nn.Linear(dim, config.projection_dim)
        self.instance_head: nn.Module = last  # [R]
        if config.projection_layers == 2:  # [M]
            self.instance_head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), last)

    def forward(self, lms: Tensor) -> Any:
        """Standardised log-mels `(B, 1, F, T)` -> embeddings and keys."""
        embedding = self.encoder.pool(self.encoder(lms))
        return MoCoOutputs(embedding, self.key(embedding))

    def key(self, embedding: Float[Tensor, "N dim"]) -> Float[Tensor, "N projection"]:
        """The instance head's answer, of unit length."""
        # In single precision: the losses are sensitive to its last digits.
        return normalize(self.instance_head(embedding).float(), dim=1)


class MoCo(Method):
    """The instance loss alone. Methods that add to it override `network` and `_losses`."""

    name = "moco"
    network = MoCoNetwork
    weights: ClassVar[tuple[str, ...]] = ("instance_weight",)
    panels: ClassVar[tuple[Panel, ...]] = (Panel("instance loss", "nats", {"instance": "instance"}),)

    queue: Tensor
    queue_clip: Tensor
    queued: Tensor

    def __init__(self, config: Config, encoder: Callable[[], Any] | None = None):
        super().__init__(config, encoder)
        self.teacher = make_teacher(self.student)
        self.register_buffer("queue", torch.zeros(config.queue, config.projection_dim))
        self.register_buffer("queue_clip", torch.full((config.queue,), NO_CLIP))
        self.register_buffer("queued", torch.tensor(0))  # keys ever put in; the next place is queued % Q

    def step(
        self, view1: Tensor, view2: Tensor, clips: Tensor | None = None
    ) -> tuple[dict[str, Tensor], tuple[Any, Any, Any, Any]]:
        """As of `Method`."""
        unknown = torch.full((len(view1),), UNKNOWN_CLIP, device=view1.device)
        clips = unknown if clips is None else named(clips)
        answers = self.both(view1, view2)
        parts = self._losses(pairs(*answers), self._masked(clips))
        if self.training:
            # All terms have used the queue as it was; only now do the new keys enter.
            keys = [distributed.gather(t.key) for _, t in pairs(*answers)]
            self._enqueue(torch.cat(keys), distributed.gather(clips).repeat(len(keys)))
        return parts, answers

    def _losses(self, directions: list[tuple[Any, Any]], mask: Tensor) -> dict[str, Tensor]:
        """The named parts and their total, of what student and teacher said: one or both directions.

        Without the instance loss, if its weight is 0, the total is 0.
        """
        if not self.config.instance_weight:
            return {"total": directions[0][0].key.new_zeros(())}
        terms = [info_nce(s.key, t.key, self.queue, self.config.temperature, mask) for s, t in directions]
        instance = torch.stack(terms).sum()
        return {"total": self.config.instance_weight * instance, "instance": instance}

    def _masked(self, clips: Tensor) -> Tensor:
        """`(B, Q)`: True where a queue entry must not count as a negative of a clip."""
        empty = self.queue_clip == NO_CLIP
        if not self.config.mask_own_keys:
            return empty.expand(len(clips), -1)
        nobody = min(NO_CLIP, UNKNOWN_CLIP) - 1
        return (self.queue_clip == clips.where(clips >= 0, nobody)[:, None]) | empty

    @torch.no_grad()
    def _enqueue(self, keys: Tensor, clips: Tensor) -> None:
        size = len(self.queue)
        place = (self.queued + torch.arange(len(keys), device=keys.device)) % size
        self.queued += len(keys)
        last = slice(-size, None)  # of more keys than the queue holds, the last ones
        self.queue[place[last]] = keys[last].to(self.queue.dtype)
        self.queue_clip[place[last]] = clips[last]


def named(clips: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The ids of clips as the queue keeps them: a negative one, since those mean something there, without its sign.

    -1 becomes 2**63 - 1, and so on; without a look at the numbers, which a GPU's step cannot wait for.
    """
    return clips.long() & _ID_BITS
