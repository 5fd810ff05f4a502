"""Settings against each other: is one better, or is it chance?

A *result* is what probes say of one pre-training run, a mapping as `benchmarks/choose.py` stores it: `name` of the
setting, `seed`, `config` (all of its settings), `share` (of the clips, that it was trained on; 1 if missing) and
`folds`: for each task the accuracy of each fold. The folds are the same for all, so that results are compared fold by
fold: what makes a fold hard for all of them cancels. They keep groups (speakers, places) together wherever they can,
so that the spread over folds is one over groups; of a class with one or two groups it says little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from slicer_lite.audio.store import Clips
from slicer_lite.config import Config
from slicer_lite.probe.linear import CS, check_features, cross_validate

Result = Mapping[str, Any]
BASELINES = ("untrained", "mel")  # names of results that no setting of the training can change


def fold_accuracies(features: np.ndarray, clips: Clips, cs: Sequence[float] = CS) -> dict[str, list[float]]:
    """For each task of `clips` the accuracy of five folds: the `folds` of a result.

    Args:
        features: `(N, D)` of the clips.
        clips: of a train split: every labelled clip is used.
        cs: see `linear_probe`.

    Raises:
        ValueError: the features are not of these clips.
    """
    check_features(features, clips, "given")
    accuracies = {}
    for task in clips.tasks:
        rows = clips.rows[clips.rows["task"] == task]
        folds = cross_validate(
            features[rows["clip"]], rows["label"].to_list(), rows["group"].to_list(), cs=cs
        )
        accuracies[task] = [fold.accuracy for fold in folds]
    return accuracies


def differences(
    results: Sequence[Result], base: str, changes: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """How far each setting lies from the one called `base`: mean over tasks and folds, with a 95 % interval.

    The interval has two sources, which are added: the clips (deviation of the differences over folds, with the
    correction for folds that share their training clips: Nadeau and Bengio, Machine Learning 52, 2003), and the seeds
    of training (their deviation within a setting, pooled over all settings but `BASELINES`, since a few seeds of one
    say little). It is Student's t with Welch's and Satterthwaite's degrees of freedom, each task a source of its own
    (where the noisiest of them has two folds only, it holds nine times in ten). Where no setting has two seeds it
    says nothing of what another seed would give. No correction is made for looking at several settings: of twenty
    that do nothing, one is expected to lie outside its interval.

    Args:
        results: of the base and of other settings.
        base: its name.
        changes: names of the settings to compare with it, and what to call each, as `families` gives them; results
            of others are left aside. Without it all are compared, under their own names.

    Returns:
        A row for each other setting, in the order of `results`; columns `difference`, `low` and `high` (accuracies
        from -1 to 1), `seeds` (their number), `by_seed` (a list: the difference of each seed from the base's mean).

    Raises:
        ValueError: there is no result called `base`, two have one name and seed or differ in their tasks or
            numbers of folds, or a task has one fold.
    """
    if changes is not None:
        results = [result for result in results if result["name"] in (base, *changes)]
    runs = [(result["name"], result["seed"]) for result in results]
    if twice := [run for run in runs if runs.count(run) > 1]:
        name, seed = twice[0]
        raise ValueError(
            f"Two results are called {name!r} and have seed {seed}: keep one, or it counts as two runs."
        )
    by_name = {name: _folds(results, name) for name in dict.fromkeys(result["name"] for result in results)}
    if base not in by_name:
        raise ValueError(f"There is no result called {base!r}: there are {', '.join(by_name) or 'none'}.")
    spread, freedom = _seed_variance([folds for name, folds in by_name.items() if name not in BASELINES])
    reference = by_name.pop(base)
    for task, accuracies in reference.items():
        if accuracies.shape[1] == 1:
            raise ValueError(
                f"The task {task!r} has one fold: nothing says how far another would be from it."
            )
    level = _averages(reference)  # (seeds,)
    rows = {}
    for name, folds in by_name.items():
        if {t: a.shape[1] for t, a in folds.items()} != {t: a.shape[1] for t, a in reference.items()}:
            raise ValueError(f"{name!r} and {base!r} were not probed on the same tasks and folds.")
        apart = [folds[task].mean(0) - reference[task].mean(0) for task in folds]  # (folds,) of each task
        # Each: variance of the mean, degrees of freedom. Few groups make few folds: each task has its own number.
        sources = [
            (x.var(ddof=1) * (1 / len(x) + 1 / (len(x) - 1)) / len(apart) ** 2, len(x) - 1) for x in apart
        ]
        averages = _averages(folds)
        if freedom:
            sources.append((spread * (1 / len(averages) + 1 / len(level)), freedom))
        reach = _reach(sources)
        difference = averages.mean() - level.mean()
        rows[name] = {
            "difference": difference,
            "low": difference - reach,
            "high": difference + reach,
            "seeds": len(averages),
            "by_seed": (averages - level.mean()).tolist(),
        }
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["difference", "low", "high", "seeds", "by_seed"]
    ).rename(changes or {})


def in_words(table: pd.DataFrame) -> list[str]:
    """A line for each row of `differences`, in percentage points: better, worse, or not to be told apart."""
    sentences = []
    for name, row in table.iterrows():
        verdict = "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "not to be told apart"
        points = [100 * row[column] for column in ("difference", "low", "high")]
        seeds = int(row["seeds"])
        of = "1 seed" if seeds == 1 else f"{seeds} seeds"
        sentences.append(f"{name}: {verdict} ({points[0]:+.1f}, {points[1]:+.1f} to {points[2]:+.1f}; {of})")
    return sentences


def families(results: Sequence[Result]) -> dict[str, dict[str, str]]:
    """Settings that can be compared: those that differ from a base in exactly one thing.

    The base with most of them comes first, then the one with most of the rest, and so on. Baselines (`BASELINES`)
    belong to none.

    Returns:
        For each base, the names of its settings and what is changed in each, such as `temperature 0.2`.
    """
    settings = {r["name"]: _setting(r) for r in results if r["name"] not in BASELINES}
    left = dict(settings)
    changes_of: dict[str, dict[str, str]] = {}
    while left:
        near = {
            base: {name: change for name in left if (change := _one_change(setting, settings[name]))}
            for base, setting in settings.items()
        }
        base = max(near, key=lambda name: len(near[name]))
        if not near[base]:
            break
        changes_of[base] = near[base]
        left = {name: left[name] for name in left if name != base and name not in near[base]}
    return changes_of


def _setting(result: Result) -> dict[str, Any]:
    # A setting that the run's version did not know yet was then as its default is now.
    settings = {**Config().to_dict(), **result["config"]}
    del settings["seed"]
    return {**settings, "share of the clips": result.get("share", 1.0)}


def _one_change(base: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """`name value` of the one thing in which a setting differs from its base; nothing if it is not one."""
    # One may be stored with a setting that has been given up since, and that the other never had.
    changed = [name for name in {**base, **other} if base.get(name) != other.get(name)]
    return f"{changed[0]} {other.get(changed[0])}" if len(changed) == 1 else ""


def _folds(results: Sequence[Result], name: str) -> dict[str, np.ndarray]:
    """`(seeds, folds)` accuracies of a setting in each task."""
    mine = [result["folds"] for result in results if result["name"] == name]
    try:
        if any(set(folds) != set(mine[0]) for folds in mine):
            raise ValueError
        return {task: np.array([folds[task] for folds in mine]) for task in sorted(mine[0])}
    except ValueError:
        raise ValueError(
            f"The results called {name!r} were not probed on the same tasks and folds."
        ) from None


def _averages(folds: Mapping[str, np.ndarray]) -> np.ndarray:
    """`(seeds,)` a setting's accuracy, its mean over the folds of a task and then over tasks."""
    return np.mean([accuracies.mean(1) for accuracies in folds.values()], axis=0)


def _seed_variance(settings: Sequence[Mapping[str, np.ndarray]]) -> tuple[float, int]:
    """Variance of the average within settings, pooled, and its degrees of freedom."""
    averages = [_averages(folds) for folds in settings]
    freedom = sum(len(x) - 1 for x in averages)
    return sum(((x - x.mean()) ** 2).sum() for x in averages) / max(freedom, 1), freedom


def _reach(sources: Sequence[tuple[float, int]]) -> float:
    """Half of a 95 % interval whose variance is a sum of estimates, each with its degrees of freedom."""
    total = sum(variance for variance, _ in sources)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in sources)
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(total))
