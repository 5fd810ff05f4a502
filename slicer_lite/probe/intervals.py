"""Intervals of accuracies: how far might other test clips, of other speakers and places, have moved them?

Clips of one group (a speaker, a place, a recording) are right or wrong together, so that many clips of few groups say
less than as many clips each of a group of its own. All intervals here are at 95 %. They were chosen by how often they
hold the truth (`benchmarks/intervals.py`; the table is in docs/experiments.md, section 9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, t

LEVEL = 0.975  # quantile: 2.5 % on either side
NONE = "no interval: a class has one or two groups of test clips"


class Interval(NamedTuple):
    """A value between its bounds."""

    value: float
    low: float
    high: float


def numbered(groups: Sequence[Any] | np.ndarray | pd.Series) -> np.ndarray | None:
    """`(N,)` whole numbers, the same for clips of one group; None where no group is named.

    A blank (an empty text, spaces, None or NaN) is a group of its own. Names come first, sorted, then blanks.
    """
    names = pd.Series(np.asarray(groups, dtype=object), dtype=object)
    blank = (names.isna() | (names.astype(str).str.strip() == "")).to_numpy()
    if blank.all():
        return None
    numbers = np.empty(len(names), int)
    distinct, numbers[~blank] = np.unique(names[~blank].astype(str).to_numpy(str), return_inverse=True)
    numbers[blank] = len(distinct) + np.arange(blank.sum())
    return numbers


def says_nothing(labels: np.ndarray, groups: np.ndarray | None) -> bool:
    """Whether a class, or all test clips, stand on one or two groups with several clips: there is then no interval.

    Args:
        labels: `(N,)` of the test clips.
        groups: `(N,)` as `numbered` gives them.
    """
    if groups is None:
        return False
    classes = [groups[labels == label] for label in np.unique(labels)]
    return any(len(np.unique(part)) < min(3, len(part)) for part in (groups, *classes))


def written(correct: np.ndarray, clips: np.ndarray) -> str:
    """`(G,)` counts of right answers, or means of several, and of clips, such as `3/5 1.5/2`; `counts` reads them."""
    return " ".join(f"{float(c):.6g}/{n:.0f}" for c, n in zip(correct, clips, strict=True))


def counts(by_group: str) -> np.ndarray:
    """`(2, G)`: right answers and clips of each group, as `written` has put them."""
    return np.array([[float(n) for n in group.split("/")] for group in by_group.split()]).reshape(-1, 2).T


def wilson(share: float, clips: float, z: float | None = None) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of so many clips; the share may be a mean of several counts of them.

    After Brown, Cai, DasGupta, Interval estimation for a binomial proportion, 2001. SciPy's takes whole counts only.
    """
    z = float(norm.ppf(LEVEL)) if z is None else z
    centre = (share + z**2 / (2 * clips)) / (1 + z**2 / clips)
    half = z / (1 + z**2 / clips) * (share * (1 - share) / clips + z**2 / (4 * clips**2)) ** 0.5
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


def clustered(correct: np.ndarray, clips: np.ndarray, share: float | None = None) -> tuple[float, float]:
    """Wilson's interval, of as many clips as these groups of clips are worth; never narrower than Wilson's.

    The variance is the jackknife's, which leaves out a group at a time; its ratio to that of independent clips, the
    design effect (Kish, Survey sampling, 1965), divides the number of clips. One more group of mean size, half of it
    right, counts in the design effect alone, much as Wilson's interval adds clips: that three groups are all right
    does not prove that all others would be [ours]. The quantile is Student's, with the effective number of groups,
    `(sum n)^2 / sum n^2`, less one (Carter, Schnepel, Steigerwald, Asymptotic behavior of a t-test robust to cluster
    heterogeneity, 2017, in its simplest form). Where every group is one clip, it is Wilson's.

    Args:
        correct: `(G,)` how many clips of each group are right; may be means of several counts.
        clips: `(G,)` how many clips each group has.
        share: the accuracy; by default that of all clips together.

    Raises:
        ValueError: several clips, and a single group; `says_nothing` tells beforehand.
    """
    correct, clips = np.asarray(correct, float), np.asarray(clips, float)
    number = clips.sum()
    share = correct.sum() / number if share is None else share
    if (clips == 1).all():
        return wilson(share, number)
    if len(clips) < 2:
        raise ValueError(
            f"All {number:.0f} clips are of one group: nothing says how far another would be from it."
        )
    more = clips.mean()
    right, sizes = np.append(correct, more / 2), np.append(clips, more)
    total, middle = sizes.sum(), right.sum() / sizes.sum()
    left_out = (right - middle * sizes) / (total - sizes)  # by how much each group moves the share
    variance = (left_out**2).sum() * (len(sizes) - 1) / len(sizes)
    effect = max(variance * total / (middle * (1 - middle)), 1.0)
    quantile = t.ppf(LEVEL, number**2 / (clips**2).sum() - 1)
    # Next to a single group there is no quantile: nothing is known.
    return wilson(share, number / effect, float(quantile)) if quantile < 1e6 else (0.0, 1.0)


def of(result: Mapping[str, Any]) -> Interval | None:
    """The accuracy of a stored result, as of `Accuracy.to_dict`; None where it has no interval."""
    if result["low"] is None:
        return None
    return Interval(result["accuracy"], result["low"], result["high"])


def mean(parts: Sequence[Interval | None]) -> Interval | None:
    """The mean of independent values: distances to their bounds add as squares. None where one has no interval.

    The method of variance estimates recovery: Zou, Donner, Construction of confidence limits about effect measures,
    2008. Of one value it is the value's own interval.
    """
    if not parts or None in parts:
        return None
    values, low, high = np.array(parts).T
    down, up = (np.sqrt(((values - bound) ** 2).sum()) / len(values) for bound in (low, high))
    return Interval(float(values.mean()), float(values.mean() - down), float(values.mean() + up))


def difference(result: Mapping[str, Any], other: Mapping[str, Any]) -> Interval | None:
    """How far one accuracy lies above another of the same test clips, compared group by group.

    The same method, with the correlation of what both get right in each group: Newcombe, Improved confidence
    intervals for the difference between binomial proportions based on paired data, 1998, his method 10 without the
    correction for small counts; of groups instead of clips [ours].

    Args:
        result, other: as of `Accuracy.to_dict`, of the same test clips.

    Returns:
        None where one has no interval, or what is right in each group is not stored.
    """
    mine, theirs = of(result), of(other)
    if mine is None or theirs is None or not (result.get("by_group") and other.get("by_group")):
        return None
    (right, clips), (rights, _) = counts(result["by_group"]), counts(other["by_group"])
    one, two = (each - clips * each.sum() / clips.sum() for each in (right, rights))
    both = np.sqrt((one**2).sum() * (two**2).sum())
    alike = (one * two).sum() / both if both else 0.0

    def reach(above: float, below: float) -> float:
        return float(np.sqrt(max(above**2 - 2 * alike * above * below + below**2, 0.0)))

    apart = mine.value - theirs.value
    low = apart - reach(mine.value - mine.low, theirs.high - theirs.value)
    return Interval(apart, low, apart + reach(mine.high - mine.value, theirs.value - theirs.low))
