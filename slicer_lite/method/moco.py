"""What the methods share: student, teacher that follows it, queue of its keys, and the instance loss [M]."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from slicer_lite.base import distributed
from slicer_lite.config import Config
from slicer_lite.method.encoder import Encoder
from slicer_lite.method.losses import info_nce

NO_CLIP = -1  # the clip id of an empty place in the queue
UNKNOWN_CLIP = -2  # of a key whose clip was not named
_ID_BITS = 2**63 - 1  # of a clip's id, all but the sign
BatchNorm = nn.modules.batchnorm._BatchNorm  # over whatever axes; alone, or joined across processes


class Outputs(NamedTuple):
    """What a network says of one view of a batch. Methods that compare more have Outputs with more fields."""

    embedding: Tensor  # (B, dim)
    key: Tensor  # (B, projection_dim), length 1


class Network(nn.Module):
    """Encoder and instance head. Student and teacher are one of these each."""

    def __init__(self, config: Config):
        super().__init__()
        self.encoder = Encoder(channels=config.channels, dim=config.dim, dropout=config.dropout)
        last = nn.Linear(config.dim, config.projection_dim)
        self.instance_head: nn.Module = last  # [R]
        if config.projection_layers == 2:  # [M]
            self.instance_head = nn.Sequential(nn.Linear(config.dim, config.dim), nn.ReLU(), last)

    def forward(self, lms: Tensor) -> Any:
        """Standardised log-mels `(B, 1, F, T)` -> embeddings and keys."""
        embedding = Encoder.pool(self.encoder(lms))
        return Outputs(embedding, self.key(embedding))

    def key(self, embedding: Tensor) -> Tensor:
        """The instance head's answer, of length 1: `(B, dim)` -> `(B, projection_dim)`."""
        # In single precision: the losses are sensitive to its last digits.
        return normalize(self.instance_head(embedding).float(), dim=1)


class MoCo(nn.Module):
    """Momentum contrast: the instance loss alone. Methods that add to it override `network` and `_losses`.

    `loss` is one whole step of the method; an optimiser does the rest.
    """

    network: type[Network] = Network

    queue: Tensor
    queue_clip: Tensor
    queued: Tensor

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.student = self.network(config)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        for module in self.teacher.modules():
            # The teacher answers the same way each time: no dropout [ours].
            if isinstance(module, nn.modules.dropout._DropoutNd):  # of single values or of channels
                module.p = 0.0
            # It normalises by the statistics of the batch, as in [M][R]; with momentum 0 it leaves its running
            # statistics alone, which are averaged like the weights instead (`update_teacher`) [ours].
            if isinstance(module, BatchNorm):
                module.momentum = 0.0
        self.register_buffer("queue", torch.zeros(config.queue, config.projection_dim))
        self.register_buffer("queue_clip", torch.full((config.queue,), NO_CLIP))
        self.register_buffer("queued", torch.tensor(0))  # keys ever put in; the next place is queued % Q

    def loss(self, view1: Tensor, view2: Tensor, clips: Tensor | None = None) -> dict[str, Tensor]:
        """One step of the method on two views of a batch.

        In training mode the teacher first moves towards the student, once, and after the losses are computed
        the teacher's keys enter the queue. In evaluation mode nothing changes.

        Args:
            view1, view2: `(B, 1, F, T)`.
            clips: `(B,)` whole numbers, negative ones included, that say which clip each row is of, so that a clip's
                own earlier keys are not taken for negatives (`config.mask_own_keys`). Without them no key is masked.

        Returns:
            `total`, which gradients are taken of, and its parts before weighting (each the sum of both
            directions): `instance`, and those that the method adds. Parts of weight 0 are neither computed nor
            there.
        """
        return self.step(view1, view2, clips)[0]

    def step(
        self, view1: Tensor, view2: Tensor, clips: Tensor | None = None
    ) -> tuple[dict[str, Tensor], tuple[Any, Any, Any, Any]]:
        """`loss`, and what student and teacher said of both views: s1, s2, t1, t2.

        With one direction (`config.symmetric` is False) the student hears view 1 alone and the teacher view 2: s2 and
        t1 are None.
        """
        both = self.config.symmetric
        unknown = torch.full((len(view1),), UNKNOWN_CLIP, device=view1.device)
        clips = unknown if clips is None else named(clips)
        s1, s2 = self.student(view1), self.student(view2) if both else None
        with torch.no_grad():
            if self.training:
                self.update_teacher()
            t1, t2 = self.teacher(view1) if both else None, self.teacher(view2)
        pairs = [(s1, t2), (s2, t1)] if both else [(s1, t2)]
        parts = self._losses(pairs, self._masked(clips))
        if self.training:
            # All terms have used the queue as it was; only now do the new keys enter.
            keys = [distributed.gather(t.key) for _, t in pairs]
            self._enqueue(torch.cat(keys), distributed.gather(clips).repeat(len(keys)))
        return parts, (s1, s2, t1, t2)

    @torch.no_grad()
    def update_teacher(self) -> None:
        """Move every weight and running statistic of the teacher a little towards the student's [M]."""
        share = 1 - self.config.teacher_momentum
        teacher = [*self.teacher.parameters(), *running_statistics(self.teacher)]
        student = [*self.student.parameters(), *running_statistics(self.student)]
        torch._foreach_lerp_(teacher, student, share)

    def _losses(self, pairs: list[tuple[Any, Any]], mask: Tensor) -> dict[str, Tensor]:
        """The named parts and their total, of what student and teacher said: one or both directions.

        Without the instance loss, if its weight is 0, the total is 0.
        """
        if not self.config.instance_weight:
            return {"total": pairs[0][0].key.new_zeros(())}
        terms = [info_nce(s.key, t.key, self.queue, self.config.temperature, mask) for s, t in pairs]
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


def named(clips: Tensor) -> Tensor:
    """The ids of clips as the queue keeps them: a negative one, since those mean something there, without its sign.

    -1 becomes 2**63 - 1, and so on; without a look at the numbers, which a GPU's step cannot wait for.
    """
    return clips.long() & _ID_BITS


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances of its batch norms."""
    return [
        buffer
        for module in network.modules()
        if isinstance(module, BatchNorm)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
