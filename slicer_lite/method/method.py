"""What every method is to the trainer: networks, one step, and what is to be shown of it."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from slicer_lite.base.shapes import Float, Int
from slicer_lite.config import Config
from slicer_lite.method.encoder import Encoder

BatchNorm = nn.modules.batchnorm._BatchNorm  # over whatever axes; alone, or joined across processes


class Panel(NamedTuple):
    """One diagram of a run, in its figure and in the dashboard."""

    title: str
    unit: str
    lines: Mapping[str, str]  # names in the metrics, and what is written beside the line
    low: float | None = None  # of the axis; by default that of the data
    high: float | None = None


LOSS = Panel("loss", "", {"total": "total"})  # where nothing more is known
EMBEDDINGS = Panel("embedding rank", "dimensions", {"rank": "RankMe"}, low=0)  # of every method


class Network(nn.Module):
    """An encoder with what a method puts on it. Student and teacher are one of these each.

    Args:
        config: sizes of the encoder and of the heads.
        encoder: makes another `FrameEncoder` than AudioNTT; `slicer_lite.as_encoder` makes one of any network.
    """

    def __init__(self, config: Config, encoder: Callable[[], Any] | None = None):
        super().__init__()
        self.is_audiontt = encoder is None
        audiontt = partial(Encoder, channels=config.channels, dim=config.dim, dropout=config.dropout)
        self.encoder: Any = (encoder or audiontt)()


class Method(nn.Module):
    """A method of pre-training. `loss` is one whole step of it; an optimiser does the rest.

    A new method is one class: `step`, its networks, and the names below. The trainer, figures, dashboard, weights and
    health ask for these, and know no method by name.
    """

    name: ClassVar[str]  # in config.json and on the command line
    network: ClassVar[type[Network]]
    weights: ClassVar[tuple[str, ...]] = ()  # settings that weigh its losses: not all of them may be 0
    panels: ClassVar[tuple[Panel, ...]] = ()  # beside that of the embeddings
    # Parts whose batch norms see one process's share of the batch, where several train.
    shared: ClassVar[tuple[str, ...]] = ("student", "teacher")

    def __init__(self, config: Config, encoder: Callable[[], Any] | None = None):
        super().__init__()
        if self.weights and not any(getattr(config, weight) for weight in self.weights):
            raise ValueError(f"{' = '.join(self.weights)} = 0: nothing would be learnt.")
        self.config = config
        self.student = self.network(config, encoder)
        self.teacher: Network | None = None  # methods that have one make it

    def loss(
        self,
        view1: Float[Tensor, "B 1 F T"],
        view2: Float[Tensor, "B 1 F T"],
        clips: Int[Tensor, " B"] | None = None,
    ) -> dict[str, Tensor]:
        """One step of the method on two views of a batch.

        In training mode a teacher first moves towards the student, once, and after the losses are computed a queue
        takes the new keys. In evaluation mode nothing changes.

        Args:
            view1, view2: `(B, 1, F, T)`.
            clips: `(B,)` whole numbers, negative ones included, that say which clip each row is of, so that a clip's
                own earlier keys are not taken for negatives (`config.mask_own_keys`). Without them no key is masked.

        Returns:
            `total`, which gradients are taken of, and its parts before weighting (each the sum of both
            directions). Parts of weight 0 are neither computed nor there.
        """
        return self.step(view1, view2, clips)[0]

    @abstractmethod
    def step(
        self, view1: Tensor, view2: Tensor, clips: Tensor | None = None
    ) -> tuple[dict[str, Tensor], tuple[Any, Any, Any, Any]]:
        """`loss`, and what student and teacher said of both views, as `both` gives it.

        On one GPU it is recorded at the fourth step and then replayed: what it does must hang on nothing but tensors,
        which it changes in place.
        """

    def both(self, view1: Tensor, view2: Tensor) -> tuple[Any, Any, Any, Any]:
        """What student and teacher say of both views: s1, s2, t1, t2. Before it speaks, the teacher moves.

        With one direction (`config.symmetric` is False) the student hears view 1 alone and the teacher view 2: s2 and
        t1 are None.
        """
        assert self.teacher is not None
        symmetric = self.config.symmetric
        s1, s2 = self.student(view1), self.student(view2) if symmetric else None
        with torch.no_grad():
            if self.training:
                self.update_teacher()
            return s1, s2, self.teacher(view1) if symmetric else None, self.teacher(view2)

    def watched(self, s1: Any, s2: Any, t1: Any, t2: Any) -> dict[str, Tensor]:
        """What health is measured of, from the answers that `step` gives: `(B, …)` each.

        `embedding`; `key` and `other_key`, of one view and of the other; `assignment`, where clusters are trained.
        All are the teacher's, if there is one. With one direction it hears view 2 alone: `other_key` is then the
        student's of view 1, as in the loss (dropout included).
        """
        one, other = heard(s1, s2, t1, t2)
        return {
            "embedding": one.embedding.detach(),
            "key": one.key.detach(),
            "other_key": other.key.detach(),
        }

    @torch.no_grad()
    def update_teacher(self) -> None:
        """Move every weight and running statistic of the teacher a little towards the student's [M]."""
        assert self.teacher is not None
        teacher = [*self.teacher.parameters(), *running_statistics(self.teacher)]
        student = [*self.student.parameters(), *running_statistics(self.student)]
        torch._foreach_lerp_(teacher, student, 1 - self.config.teacher_momentum)


def heard(s1: Any, s2: Any, t1: Any, t2: Any) -> tuple[Any, Any]:
    """Two answers, one of each view: the teacher's where it was asked."""
    one, other, *_ = [answer for answer in (t1, t2, s1, s2) if answer is not None]
    return one, other


def pairs(s1: Any, s2: Any, t1: Any, t2: Any) -> list[tuple[Any, Any]]:
    """The directions of a loss: what the student says of one view, with what the teacher says of the other."""
    return [(s1, t2)] if t1 is None else [(s1, t2), (s2, t1)]


def make_teacher(student: Network) -> Network:
    """A copy of the student that no gradient moves."""
    teacher = copy.deepcopy(student).requires_grad_(False)
    for module in teacher.modules():
        # It answers the same way each time: no dropout [ours].
        if isinstance(module, nn.modules.dropout._DropoutNd):  # of single values or of channels
            module.p = 0.0
        if isinstance(
            module, nn.MultiheadAttention | nn.RNNBase
        ):  # (What a forward pass does by itself stays.)
            module.dropout = 0.0
        # It normalises by the statistics of the batch, as in [M][R]; with momentum 0 it leaves its running
        # statistics alone, which are averaged like the weights instead (`update_teacher`) [ours].
        if isinstance(module, BatchNorm):
            module.momentum = 0.0
    return teacher


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances of its batch norms."""
    return [
        buffer
        for module in network.modules()
        if isinstance(module, BatchNorm)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
