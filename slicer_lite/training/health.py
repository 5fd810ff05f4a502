"""Is the run learning, or has it collapsed? Numbers, and the sentence that they mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from slicer_lite.base.device import in_double

SETTLED = 50  # steps before which a network that has just begun is not called ill
# Where a number becomes a warning; all [ours], seen in runs that were broken on purpose.
# How many clusters are some clip's first choice tells nothing by itself: while all shares are alike, as at the
# beginning, a hair decides.
_LOW_ENTROPY = 0.5  # of the clusters' use, as a share of the largest possible
_LOW_RANK = 0.02  # RankMe as a share of the largest possible …
_FEW_DIMENSIONS = 3  # … and in any case: small healthy networks have 4 and more, collapsed ones 1 to 2
_STILL = 1e-6  # share of its way to the student that the teacher goes in a step
RANKED = 256  # embeddings that RankMe looks at: its time grows with the cube of their number
_DRIFT = 1.0  # teacher's distance from the student, relative to the student's size
_HASTY = 0.03  # teacher's pace: 0.02 did no harm in 200 steps, 0.05 did (docs/experiments.md, section 2)
_WAITING = 0.25  # share of the time spent on waiting for clips; from a local disk it is below 0.01


def measure(
    answers: Mapping[str, Tensor], networks: Sequence[torch.nn.Module], before: Sequence[torch.nn.Module]
) -> dict[str, float]:
    """All that can be measured of a step.

    Args:
        answers: of `Method.watched`, of the joined batch.
        networks: student and, if there is one, teacher.
        before: the same before the step.
    """
    embedding = answers["embedding"]
    metrics = cluster_health(answers["assignment"]) if "assignment" in answers else {}
    metrics |= {"rank": rank_me(embedding), "largest_rank": float(min(*embedding.shape, RANKED))}
    if "other_key" in answers:
        metrics["alignment"] = alignment(answers["key"], answers["other_key"])
    if "key" in answers:
        metrics["uniformity"] = uniformity(answers["key"])
    if len(networks) == 2:
        metrics |= {
            "drift": drift(*networks),
            "teacher_pace": teacher_pace(before[0], before[1], networks[1]),
        }
    return metrics


@torch.no_grad()
def cluster_health(assignment: Tensor) -> dict[str, float]:
    """How the clusters are used by a batch of soft assignments `(N, M)`.

    Returns:
        `clusters_used`: share of clusters that are some clip's most likely one, of as many as could be;
        `cluster_entropy`: of the mean assignment, from 0 (all in one) to 1 (all alike);
        `confidence`: mean of each clip's largest assignment.
    """
    count, clusters = assignment.shape
    mean = assignment.mean(0)
    return {
        "clusters_used": assignment.argmax(1).unique().numel() / min(count, clusters),
        "cluster_entropy": -torch.xlogy(mean, mean).sum().item() / math.log(clusters),
        "confidence": assignment.amax(1).mean().item(),
    }


@torch.no_grad()
def rank_me(embeddings: Tensor) -> float:
    """Effective number of dimensions of `(N, D)` embeddings: RankMe (arXiv 2210.02885).

    exp of the entropy of the normalised singular values; from 1 (all on a line) to min(N, D), with 256 for N if
    there are more embeddings: the first 256 are looked at.
    """
    embeddings = embeddings[:RANKED]
    # The singular values are the roots of the Gram matrix's eigenvalues, which are cheaper.
    x = in_double(embeddings)
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    singular = torch.linalg.eigvalsh(gram.cpu()).clamp(min=0).sqrt()
    share = singular / singular.sum().clamp(min=1e-12)
    return torch.exp(-torch.xlogy(share, share).sum()).item()


@torch.no_grad()
def alignment(x: Tensor, y: Tensor) -> float:
    """Mean squared distance of two views' keys, both `(N, D)`; 0 is perfect (arXiv 2005.10242)."""
    return (normalize(x, dim=1) - normalize(y, dim=1)).square().sum(1).mean().item()


@torch.no_grad()
def uniformity(x: Tensor) -> float:
    """log of the mean Gaussian potential of all pairs of keys `(N, D)` (arXiv 2005.10242).

    0 when all are at one point; the more negative, the more evenly they lie on the sphere (about -4 at best).
    """
    x = x.cpu() if x.device.type == "mps" else x  # which has no pdist
    return torch.pdist(normalize(x.float(), dim=1)).square().mul(-2).exp().mean().log().item()


@torch.no_grad()
def drift(student: torch.nn.Module, teacher: torch.nn.Module) -> float:
    """Distance of the teacher's weights from the student's, relative to the size of the student's."""
    return _distance(student, teacher) / max(_size(student.parameters()), 1e-6)


@torch.no_grad()
def teacher_pace(student: torch.nn.Module, before: torch.nn.Module, after: torch.nn.Module) -> float:
    """Share of its way to the student that the teacher goes in an update: 1 - momentum, but for rounding.

    Args:
        before, after: the teacher, before and after the update. If it was at the student already, the share is 1.
    """
    way = _distance(student, before)
    return _distance(after, before) / way if way else 1.0


def _distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    """Between the weights of two networks of the same form."""
    return _size(a - b for a, b in zip(one.parameters(), other.parameters(), strict=True))


def _size(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all their values."""
    return math.sqrt(torch.stack([x.square().sum() for x in tensors]).sum().item())


def diagnose(health: Mapping[str, float]) -> list[str]:
    """What the numbers mean, one sentence for each thing that looks wrong; nothing if all is well.

    Args:
        health: some of `clusters_used`, `cluster_entropy`, `rank`, `largest_rank`, `drift`, `teacher_pace` and
            `waiting`.
    """
    said = []
    if health.get("cluster_entropy", 1.0) < _LOW_ENTROPY:
        used = (
            f"; {health['clusters_used']:.0%} are any clip's first choice"
            if "clusters_used" in health
            else ""
        )
        said.append(
            "Cluster collapse: a few clusters have nearly all clips (the entropy of their use is "
            f"{health['cluster_entropy']:.0%} of the largest{used}). Raise entropy_weight, or lower learning_rate."
        )
    rank, largest = health.get("rank"), health.get("largest_rank")
    if rank is not None and largest and rank < max(_LOW_RANK * largest, min(_FEW_DIMENSIONS, largest / 2)):
        hasty = health.get("teacher_pace", 0.0) > _HASTY
        said.append(
            f"Dimensional collapse: the embeddings fill about {rank:.0f} of {largest:.0f} dimensions. "
            f"{'Raise teacher_momentum' if hasty else 'Lower learning_rate'}, or raise instance_weight."
        )
    if health.get("drift", 0.0) > _DRIFT:
        said.append(
            f"The teacher has lost the student: their weights differ by {health['drift']:.0%} of the student's "
            "size. Lower learning_rate, weight_decay or teacher_momentum."
        )
    if health.get("teacher_pace", 1.0) < _STILL:
        said.append(
            "The teacher stands still: it does not follow the student, which learns from the network that its "
            "teacher was at the beginning. Lower teacher_momentum."
        )
    if health.get("waiting", 0.0) > _WAITING:
        said.append(
            f"Stalled loader: {health['waiting']:.0%} of the time goes into waiting for clips. Keep them on a faster "
            "disk (SLICER_LITE_CACHE), or look at what else is using it."
        )
    return said
