"""Linear probes: how much of a task can be read off frozen embeddings by one linear layer?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from slicer_lite.audio.store import Clips
from slicer_lite.probe import intervals
from slicer_lite.probe.features import Features
from slicer_lite.probe.intervals import numbered, wilson
from slicer_lite.probe.layer import LinearLayer, Windows

CS = tuple(10.0**e for e in range(-4, 3))  # inverse regularisation, tried inside the train split
_FOLDS = 4
_FEW_WINDOWS = 16_384
_HELD_OUT = 5  # a fifth of the train split, where a task has no validation split


@dataclass(frozen=True)
class Accuracy:
    """Share of the test clips that were classified right, with its 95 % interval (see `intervals.clustered`).

    Attributes:
        accuracy: from 0 to 1.
        low, high: from 0 to 1; None where a class has one or two groups of test clips, which say too little.
        correct, clips: what the share is of.
        C: the inverse regularisation that the train split chose; None where none was chosen. Results of
            earlier versions call it `strength`.
        groups: how many groups of test clips the interval stands on; as many as clips where none are known.
        by_group: how many clips are right and how many there are, of each group, such as `3/5 2/2`; in the order of
            the groups' names, then those without a name. Empty where every group is one clip and which were right is
            not known.
    """

    accuracy: float
    low: float | None
    high: float | None
    correct: int
    clips: int
    C: float | None = None
    groups: int | None = None
    by_group: str = ""

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{100 * self.accuracy:.1f} % ({intervals.NONE})"
        of_groups = f"; {self.groups} groups" if self.groups not in (None, self.clips) else ""
        return f"{100 * self.accuracy:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f}{of_groups})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def linear_probe(
    train_x: np.ndarray,
    train_y: Sequence[Any],
    test_x: np.ndarray,
    test_y: Sequence[Any],
    groups: Sequence[Any] | None = None,
    cs: Sequence[float] = CS,
    seed: int = 0,
    validation: tuple[np.ndarray, Sequence[Any]] | None = None,
    test_groups: Sequence[Any] | None = None,
) -> Accuracy:
    """Fit a regularised linear classifier on frozen features and test it once.

    Features are standardised with the train split's mean and deviation; the classifier is scikit-learn's
    multinomial logistic regression; how strongly it is regularised is chosen by how many labels of the validation
    split are right, or of those held out in cross-validation inside the train split if there is none. The test split
    is used for nothing but the final count.

    Args:
        train_x, test_x: `(N, D)` features.
        train_y, test_y: `(N,)` labels.
        groups: `(N,)` of the train split: clips of one group stay on one side of the cross-validation. A blank is a
            group of its own.
        cs: values of C, the inverse regularisation, to choose from.
        seed: of the folds.
        validation: features and labels of a validation split, if the task has one.
        test_groups: `(N,)` of the test split (speakers, places), which the interval takes as drawn anew; by default
            every clip is a group of its own.

    Raises:
        ValueError: shapes that do not fit, features that are not finite, no C, one class only, labels in
            the test split that the train split lacks, or too few clips to hold some out.
    """
    right, c = _right(train_x, train_y, test_x, test_y, groups, cs, seed, validation)
    return scored(right, test_y, test_groups, c)


def _right(
    train_x: np.ndarray,
    train_y: Sequence[Any],
    test_x: np.ndarray,
    test_y: Sequence[Any],
    groups: Sequence[Any] | np.ndarray | None,
    cs: Sequence[float],
    seed: int,
    validation: tuple[np.ndarray, Sequence[Any]] | None = None,
) -> tuple[np.ndarray, float]:
    """Which test clips are right, `(N,)`, and the C that was chosen: see `linear_probe`."""
    train_x, test_x = np.asarray(train_x, np.float64), np.asarray(test_x, np.float64)
    y, true = np.asarray(train_y).astype(str), np.asarray(test_y).astype(str)
    if train_x.ndim != 2 or test_x.ndim != 2 or train_x.shape[1:] != test_x.shape[1:]:
        raise ValueError(f"Features must be (N, D) with one D, got {train_x.shape} and {test_x.shape}.")
    if len(train_x) != len(y) or len(test_x) != len(true):
        raise ValueError(
            f"Got {len(train_x)} train features with {len(y)} labels, {len(test_x)} test features with "
            f"{len(true)} labels: they must agree."
        )
    if groups is not None and len(groups) != len(y):
        raise ValueError(f"Got {len(groups)} groups with {len(y)} train labels: they must agree.")
    if not len(cs):
        raise ValueError("There are no values of C to choose from: give one or several.")
    _check_finite(train_x, test_x)
    _check_labels(y, true)
    # On matrices of this size threads wait for each other more than they work.
    with threadpool_limits(1):
        if validation is None:
            c = _choose_c(train_x, y, groups, cs, seed)
        else:
            held_x, held_y = np.asarray(validation[0], np.float64), np.asarray(validation[1]).astype(str)
            if held_x.shape != (len(held_y), train_x.shape[1]) or not len(held_y):
                raise ValueError(
                    f"Validation features must be ({len(held_y)}, {train_x.shape[1]}), one row for each of its "
                    f"labels and at least one, got {held_x.shape}."
                )
            _check_finite(held_x)
            c = _best([(train_x, y, held_x, held_y)], cs)
        return _classifier(c).fit(train_x, y).predict(test_x) == true, c


def cross_validate(
    x: np.ndarray,
    y: Sequence[Any],
    groups: Sequence[Any] | None = None,
    folds: int = 5,
    cs: Sequence[float] = CS,
    seed: int = 0,
) -> list[Accuracy]:
    """`linear_probe` on each fold in turn, fitted to the others: for choosing settings inside a train split.

    The folds are a function of labels, groups and seed, so that features of several encoders meet the same
    folds and can be compared fold by fold.

    Args:
        x, y, groups: `(N, D)`, `(N,)`, `(N,)` of the train split; groups are kept together where there are
            enough of them. A blank is a group of its own.

    Returns:
        One accuracy a fold, with an interval that takes the fold's groups as drawn anew.

    Raises:
        ValueError: as of `linear_probe`; also when the clips are too few for folds within folds.
    """
    x = np.asarray(x, np.float64)
    labels = np.asarray(y).astype(str)
    if len(x) != len(labels) or (groups is not None and len(groups) != len(labels)):
        raise ValueError(
            f"Got {len(x)} features, {len(labels)} labels and {'no' if groups is None else len(groups)} groups: "
            "they must agree."
        )
    group_of = None if groups is None else np.asarray(groups, dtype=object)
    accuracies = []
    for fit, check in split_folds(labels, group_of, folds, seed):
        inside, outside = (None if group_of is None else group_of[part] for part in (fit, check))
        if len(cs) > 1 and np.unique(labels[fit], return_counts=True)[1].max() < 2:
            raise ValueError(
                "Too few clips: without a fold, every class has a single one, so that nothing can be held out to "
                "choose C by. Give one C, or three clips of some class."
            )
        # A class that only the held-out fold has cannot be right: its clips are counted as errors.
        in_fit = np.isin(labels[check], labels[fit])
        right = np.zeros(len(check), bool)
        right[in_fit], c = _right(
            x[fit], labels[fit], x[check[in_fit]], labels[check[in_fit]], inside, cs, seed
        )
        accuracies.append(scored(right, labels[check], outside, c))
    return accuracies


def window_probe(
    features: Features,
    rows: pd.DataFrame,
    cs: Sequence[float] = CS,
    seed: int = 0,
    device: str = "cpu",
) -> Accuracy:
    """LAPE's protocol: one linear layer on windows; a clip's logits are the mean of its windows' logits.

    Every window of a train clip is trained with its clip's label. How strongly the layer is regularised is chosen by
    how many labels of the validation clips are right, or of those held out in cross-validation inside the train split
    if there is none, as in `linear_probe`.

    Args:
        features: of every window of the data set.
        rows: of one task; columns `clip`, `label`, `split` and `group`, as in `Clips.rows`.
        cs: values of C, the inverse regularisation, to choose from, per window.
        seed: of the folds.
        device: that the layer is trained on.

    Raises:
        ValueError: features that are not finite, one class only, or labels in the test split that the train split
            lacks.
    """
    train, test = (rows[rows["split"] == split] for split in ("train", "test"))
    labels = train["label"].to_numpy(str)
    _check_labels(labels, test["label"].to_numpy(str))
    torch_device = torch.device(device)
    held = rows[rows["split"] == "validation"]
    # Of few windows, threads wait for each other more than they work (measured: 30 times as long with two).
    few = np.isin(features.owner, train["clip"]).sum() <= _FEW_WINDOWS
    with threadpool_limits(1 if few else None):
        splits = [(train, held)] if len(held) else _row_folds(train, _FOLDS, seed)
        c = _window_c(features, splits, cs, torch_device)
        windows, owner = _windows(features, train, torch_device)
        names, y = np.unique(labels, return_inverse=True)
        layer = LinearLayer(len(names), features.windows.shape[1]).fit(windows, y[owner], c)
        predicted = names[_clip_logits(layer, features, test, windows).argmax(1)]
    return scored(predicted == test["label"].to_numpy(str), test["label"], test["group"], c)


def quick_probe(embeddings: np.ndarray, rows: pd.DataFrame, seed: int = 0) -> Accuracy:
    """`linear_probe` on the clips of one task.

    Args:
        embeddings: `(N, D)`, one row a clip of the data set.
        rows: of the task; columns `clip`, `label`, `split` and `group`, as in `Clips.rows`.
        seed: of the folds.
    """
    train, held, test = (rows[rows["split"] == split] for split in ("train", "validation", "test"))
    (x, y), held_data, (test_x, test_y) = (
        (embeddings[part["clip"]], part["label"].tolist()) for part in (train, held, test)
    )
    validation = held_data if len(held) else None
    groups, test_groups = train["group"].tolist(), test["group"].tolist()
    return linear_probe(
        x, y, test_x, test_y, groups, seed=seed, validation=validation, test_groups=test_groups
    )


def with_validation(rows: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The train and the validation rows of a task; where it has none, a fifth of its train split is held out.

    Groups are kept together where most classes have several of them.
    """
    train, held = rows[rows["split"] == "train"], rows[rows["split"] == "validation"]
    if len(held):
        return train, held
    return _row_folds(train, _HELD_OUT, seed)[0]


def majority(
    train_y: Sequence[Any], test_y: Sequence[Any], test_groups: Sequence[Any] | None = None
) -> Accuracy:
    """The baseline that hears nothing: always the train split's most frequent label.

    Args:
        train_y, test_y: `(N,)` labels.
        test_groups: see `linear_probe`.
    """
    names, counts = np.unique(np.asarray(train_y).astype(str), return_counts=True)
    return scored(np.asarray(test_y).astype(str) == names[counts.argmax()], test_y, test_groups)


def majority_of(rows: pd.DataFrame) -> Accuracy:
    """`majority` on the rows of one task."""
    train, test = (rows[rows["split"] == split] for split in ("train", "test"))
    return majority(train["label"].tolist(), test["label"].tolist(), test["group"].tolist())


def counted(correct: int, clips: int, c: float | None = None) -> Accuracy:
    """`correct` of `clips` as an `Accuracy`, each clip a group of its own."""
    return Accuracy(correct / clips, *wilson(correct / clips, clips), correct, clips, c, clips)


def scored(
    right: np.ndarray,
    labels: Sequence[Any] | pd.Series,
    groups: Sequence[Any] | np.ndarray | pd.Series | None = None,
    c: float | None = None,
) -> Accuracy:
    """An `Accuracy` from which test clips are right.

    Args:
        right, labels, groups: `(N,)`; a blank is a group of its own, and so is every clip where none are given.
        c: that was chosen.

    Raises:
        ValueError: the numbers of clips, labels and groups do not agree.
    """
    if len({len(right), len(labels), len(right) if groups is None else len(groups)}) > 1:
        count = "no" if groups is None else len(groups)
        raise ValueError(
            f"Got {len(right)} test clips, {len(labels)} labels and {count} groups: they must agree."
        )
    group_of = None if groups is None else numbered(groups)
    unit = np.arange(len(right)) if group_of is None else group_of
    correct, clips = np.bincount(unit, right), np.bincount(unit)
    accuracy = float(np.mean(right))
    low, high = (
        (None, None)
        if intervals.says_nothing(np.asarray(labels).astype(str), group_of)
        else intervals.clustered(correct, clips)
    )
    by_group = intervals.written(correct, clips)
    return Accuracy(accuracy, low, high, int(np.sum(right)), len(right), c, len(clips), by_group)


def split_folds(
    y: np.ndarray, groups: Sequence[Any] | np.ndarray | None, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of places to fit to and to check on. Groups stay together where `_can_be_split`.

    Args:
        y, groups: `(N,)` labels and groups; a blank is a group of its own.
        folds: how many, at most; classes or groups may be too few.
        seed: of the folds.

    Raises:
        ValueError: no class has two clips.
    """
    _check_counts(y)
    x = np.zeros((len(y), 1))  # scikit-learn wants something to split
    folds = min(folds, np.unique(y, return_counts=True)[1].max())
    groups = None if groups is None else numbered(groups)
    with warnings.catch_warnings():
        # A class with fewer clips or groups than folds is missing from some: its clips then count as errors, for all
        # alike.
        warnings.filterwarnings("ignore", message="The least populated class")
        if groups is not None and _can_be_split(y, groups):
            folds = min(folds, len(set(groups)))
            splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(x, y, groups))
            if telling := [(fit, held) for fit, held in splits if _says_something(y[fit], y[held])]:
                return telling
        splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y))
        return [(fit, held) for fit, held in splits if _says_something(y[fit], y[held])] or splits


def _row_folds(train: pd.DataFrame, folds: int, seed: int) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """`split_folds` of the rows of a train split."""
    splits = split_folds(train["label"].to_numpy(str), train["group"].to_numpy(str), folds, seed)
    return [(train.iloc[fit], train.iloc[held]) for fit, held in splits]


def _says_something(fit: np.ndarray, held: np.ndarray) -> bool:
    """Not of a fold that holds nothing but what is nowhere else, or that leaves one class."""
    return len(set(fit)) > 1 and bool(np.isin(held, fit).any())


def _can_be_split(y: np.ndarray, groups: np.ndarray) -> bool:
    """Whether clips of another group remain to learn from when one is held out: for two classes, and for half of all.

    It is better to judge by fewer classes than by groups that are on both sides: of a place or a voice that has been
    heard, held-out clips say little.
    """
    several = [len(set(groups[y == label])) > 1 for label in set(y)]
    return sum(several) >= max(2, len(several) / 2)


def _choose_c(
    x: np.ndarray,
    y: np.ndarray,
    groups: Sequence[Any] | np.ndarray | None,
    cs: Sequence[float],
    seed: int,
) -> float:
    """The C with which most labels held out in cross-validation are right.

    Right answers, not their likelihood: a classifier that meets places or voices which it has not heard is surer than
    it should be, and the likelihood then prefers one that says next to nothing (measured in docs/experiments.md).
    """
    if len(cs) == 1:
        return cs[0]
    folds = split_folds(y, groups, _FOLDS, seed)
    return _best([(x[fit], y[fit], x[held], y[held]) for fit, held in folds], cs)


def _best(
    splits: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], cs: Sequence[float]
) -> float:
    """The C with which most held-out labels are right: of features and labels to fit to and held out.

    Of several, the strongest regularisation.
    """
    best, most = min(cs), -1
    for c in sorted(cs):
        right = sum(
            int((_classifier(c).fit(x, y).predict(held_x) == held_y).sum()) for x, y, held_x, held_y in splits
        )
        if right > most:
            best, most = c, right
    return best


def _window_c(
    features: Features,
    splits: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    cs: Sequence[float],
    device: torch.device,
) -> float:
    """The C with which most held-out clips are right; of several, the strongest regularisation.

    From the strongest on, so that each fit begins near its end. All are tried: on unbalanced classes the strongest
    ones all say the class that is frequent, and are equally right.
    """
    if len(cs) == 1:
        return cs[0]
    parts = []
    for fit, held in splits:
        names, y = np.unique(fit["label"].to_numpy(str), return_inverse=True)
        windows, owner = _windows(features, fit, device)
        parts.append((held, names, y[owner], windows, LinearLayer(len(names), features.windows.shape[1])))
    best, most = min(cs), -1
    for c in sorted(cs):
        right = 0
        for held, names, y, windows, layer in parts:
            layer.fit(windows, y, c)  # from the last one on, which is near
            predicted = names[_clip_logits(layer, features, held, windows).argmax(1)]
            right += int((predicted == held["label"].to_numpy(str)).sum())
        if right > most:
            best, most = c, right
    return best


def _windows(
    features: Features, rows: pd.DataFrame, device: torch.device, like: Windows | None = None
) -> tuple[Windows, np.ndarray]:
    """The windows of the clips in `rows`, and which row each is of."""
    row_of = np.full(features.owner[-1] + 1, -1)
    row_of[rows["clip"]] = np.arange(len(rows))
    owner = row_of[features.owner]
    return Windows(features.windows, np.flatnonzero(owner >= 0), device, like), owner[owner >= 0]


def _clip_logits(layer: LinearLayer, features: Features, rows: pd.DataFrame, like: Windows) -> np.ndarray:
    """`(N, K)`: the mean over each clip's windows, in the order of `rows`."""
    windows, owner = _windows(features, rows, like.device, like)
    total = np.zeros((len(rows), len(layer.bias)))
    np.add.at(total, owner, layer.logits(windows))
    return total / np.bincount(owner, minlength=len(rows))[:, None]


def check_seed(seed: int) -> None:
    """See that scikit-learn takes a seed.

    Raises:
        ValueError: says which it takes.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed = {seed}: it must be a whole number from 0 to below 2**32.")


def check_rows(rows: pd.DataFrame) -> None:
    """See that the labels of one task's rows can be probed.

    Raises:
        ValueError: they cannot; says why.
    """
    labels = {split: rows["label"][rows["split"] == split].to_numpy(str) for split in ("train", "test")}
    _check_labels(labels["train"], labels["test"])
    if not (rows["split"] == "validation").any():
        _check_counts(labels["train"])


def check_features(x: np.ndarray, clips: Clips, name: str) -> None:
    """See that features are of these clips: one row for each.

    Raises:
        ValueError: they are not.
    """
    if len(x) != len(clips):
        raise ValueError(
            f"The features {name!r} have {len(x)} rows, and there are {len(clips)} clips: they must agree."
        )


def _check_finite(*features: np.ndarray) -> None:
    if not all(np.isfinite(x).all() for x in features):
        raise ValueError("Features must be finite: some are NaN or infinite.")


def _check_counts(labels: np.ndarray) -> None:
    if np.unique(labels, return_counts=True)[1].max(initial=0) < 2:
        raise ValueError("Every class has a single clip: nothing can be held out to choose C by.")


def _check_labels(train: np.ndarray, test: np.ndarray) -> None:
    if not len(test) or not len(train):
        raise ValueError(f"Got {len(train)} train and {len(test)} test labels: there must be some.")
    if len(set(train)) < 2:
        raise ValueError(f"A probe needs at least two classes; the train split has only '{train[0]}'.")
    unseen = sorted(set(test) - set(train))
    if unseen:
        raise ValueError(f"The test split has labels that the train split lacks: {', '.join(unseen[:5])}.")


class _Quiet(LogisticRegression):
    """Logistic regression that stops without a warning when its iterations are used up."""

    def fit(self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> _Quiet:
        with warnings.catch_warnings():
            # With hardly any regularisation the optimum lies at infinity: accuracy settles long before.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().fit(x, y, sample_weight)


def _classifier(c: float) -> Any:
    return make_pipeline(StandardScaler(), _Quiet(C=c, max_iter=300))
