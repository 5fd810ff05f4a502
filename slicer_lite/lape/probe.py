"""Linear probes: how much of a task can be read off frozen embeddings by one linear layer?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

STRENGTHS = tuple(10.0**e for e in range(-4, 3))  # inverse regularisation, tried inside the train split
_FOLDS = 4


@dataclass(frozen=True)
class Accuracy:
    """Share of the test clips that were classified right, with its 95 % Wilson interval.

    Attributes:
        accuracy, low, high: from 0 to 1.
        correct, clips: what the share is of.
        strength: the inverse regularisation that the train split chose; None where none was chosen.
    """

    accuracy: float
    low: float
    high: float
    correct: int
    clips: int
    strength: float | None = None

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def linear_probe(
    train_x: np.ndarray,
    train_y: Sequence[Any],
    test_x: np.ndarray,
    test_y: Sequence[Any],
    groups: Sequence[Any] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Accuracy:
    """Fit a regularised linear classifier on frozen features and test it once.

    Features are standardised with the train split's mean and deviation; the classifier is scikit-learn's
    multinomial logistic regression; how strongly it is regularised is chosen inside the train split, by the
    cross-validated likelihood of its labels. The test split is used for nothing but the final count.

    Args:
        train_x, test_x: `(N, D)` features.
        train_y, test_y: `(N,)` labels.
        groups: `(N,)` of the train split: clips of one group stay on one side of the cross-validation.
        strengths: inverse regularisations to choose from.
        seed: of the folds.

    Raises:
        ValueError: shapes that do not fit, features that are not finite, one class only, or labels in the
            test split that the train split lacks.
    """
    train_x, test_x = np.asarray(train_x, np.float64), np.asarray(test_x, np.float64)
    y, true = np.asarray(train_y).astype(str), np.asarray(test_y).astype(str)
    if train_x.ndim != 2 or test_x.ndim != 2 or train_x.shape[1:] != test_x.shape[1:]:
        raise ValueError(f"Features must be (N, D) with one D, got {train_x.shape} and {test_x.shape}.")
    if len(train_x) != len(y) or len(test_x) != len(true) or not len(true):
        raise ValueError(
            f"Got {len(train_x)} train features with {len(y)} labels, {len(test_x)} test features with "
            f"{len(true)} labels: they must agree, and there must be some."
        )
    if not (np.isfinite(train_x).all() and np.isfinite(test_x).all()):
        raise ValueError("Features must be finite: some are NaN or infinite.")
    if len(set(y)) < 2:
        raise ValueError(f"A probe needs at least two classes; the train split has only '{y[0]}'.")
    unseen = sorted(set(true) - set(y))
    if unseen:
        raise ValueError(f"The test split has labels that the train split lacks: {', '.join(unseen[:5])}.")
    # On matrices of this size threads wait for each other more than they work.
    with threadpool_limits(1):
        strength = _choose_strength(train_x, y, groups, strengths, seed)
        correct = int((_classifier(strength).fit(train_x, y).predict(test_x) == true).sum())
    return counted(correct, len(true), strength)


def cross_validate(
    x: np.ndarray,
    y: Sequence[Any],
    groups: Sequence[Any] | None = None,
    folds: int = 5,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> list[Accuracy]:
    """`linear_probe` on each fold in turn, fitted to the others: for choosing settings inside a train split.

    The folds are a function of labels, groups and seed, so that features of several encoders meet the same
    folds and can be compared fold by fold.

    Args:
        x, y, groups: `(N, D)`, `(N,)`, `(N,)` of the train split; groups are kept together where there are
            enough of them.

    Returns:
        One accuracy a fold.
    """
    labels = np.asarray(y).astype(str)
    known = None if groups is None else np.asarray(groups).astype(str)
    found = []
    for fit, check in _splits(x, labels, known, folds, seed):
        inside = None if known is None else list(known[fit])
        # A class that only the held-out fold has cannot be right: its clips are counted as errors.
        there = check[np.isin(labels[check], labels[fit])]
        part = linear_probe(x[fit], list(labels[fit]), x[there], list(labels[there]), inside, strengths, seed)
        found.append(counted(part.correct, len(check), part.strength))
    return found


def majority(train_y: Sequence[Any], test_y: Sequence[Any]) -> Accuracy:
    """The baseline that hears nothing: always the train split's most frequent label."""
    names, counts = np.unique(np.asarray(train_y).astype(str), return_counts=True)
    true = np.asarray(test_y).astype(str)
    return counted(int((true == names[counts.argmax()]).sum()), len(true))


def counted(correct: int, clips: int, strength: float | None = None) -> Accuracy:
    """`correct` of `clips` as an `Accuracy`."""
    interval = binomtest(correct, clips).proportion_ci(0.95, method="wilson")
    return Accuracy(correct / clips, float(interval.low), float(interval.high), correct, clips, strength)


def _splits(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray | None, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of places to fit to and to check on. Groups stay together if each class has enough of them."""
    with warnings.catch_warnings():
        # A class with fewer clips than folds is missing from some: its clips then count as errors, for all alike.
        warnings.filterwarnings("ignore", message="The least populated class")
        if groups is not None and all(len(set(groups[y == label])) >= folds for label in set(y)):
            return list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(x, y, groups))
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y))


def _choose_strength(
    x: np.ndarray, y: np.ndarray, groups: Sequence[Any] | None, strengths: Sequence[float], seed: int
) -> float:
    """The strength under which labels held out in cross-validation are likeliest.

    Likelihood, not accuracy: a count of right answers changes by whole clips, and on a few hundred of them several
    strengths tie or nearly do, so that the choice would hang on the folds (measured in docs/experiments.md).
    """
    if len(strengths) == 1:
        return strengths[0]
    known = None if groups is None else np.asarray(groups).astype(str)
    likelihood = np.zeros(len(strengths))
    for fit, check in _splits(x, y, known, _FOLDS, seed):
        there = check[np.isin(y[check], y[fit])]
        for place, strength in enumerate(strengths):
            model = _classifier(strength).fit(x[fit], y[fit])
            given = model.predict_proba(x[there])[
                np.arange(len(there)), np.searchsorted(model.classes_, y[there])
            ]
            likelihood[place] += np.log(np.maximum(given, 1e-12)).sum()
    return strengths[int(likelihood.argmax())]


class _Quiet(LogisticRegression):
    """Logistic regression that stops without a warning when its iterations are used up."""

    def fit(self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> _Quiet:
        with warnings.catch_warnings():
            # With hardly any regularisation the optimum lies at infinity: accuracy settles long before.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().fit(x, y, sample_weight)


def _classifier(strength: float) -> Any:
    return make_pipeline(StandardScaler(), _Quiet(C=strength, max_iter=300))
