"""Every task of a data set probed with a trained encoder and with the baselines beside it; and the table of that."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch

import slicer_lite
from slicer_lite.audio.store import Clips
from slicer_lite.explore.embed import embed, mel_statistics
from slicer_lite.probe import intervals
from slicer_lite.probe.linear import check_features, check_rows, check_seed, majority_of, quick_probe
from slicer_lite.share.weights import Pretrained, untrained

# Names of what is probed. Encoders that were trained by another method are called by its name.
TRAINED, UNTRAINED, MEL, MAJORITY = "slicer", "untrained encoder", "mel mean + deviation", "majority class"
PROTOCOL = (
    "logistic regression on clip embeddings, each the mean over its windows; strength of the regularisation "
    "chosen on the validation split, or by cross-validation inside the train split"
)


def features(
    pretrained: Pretrained, clips: Clips, seed: int = 0, progress: bool = False, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """What probes are given: the trained embeddings, and two baselines that need no training.

    Args:
        pretrained: of `slicer_lite.load`; the untrained encoder has its architecture and statistics.
        clips: any.
        seed: of the untrained encoder's weights.
        progress: show bars.
        device: that the encoders run on.

    Returns:
        `(N, D)` arrays by name, each with a D of its own.
    """
    plain = untrained(pretrained, seed)
    return {
        pretrained.config.method: embed(pretrained.encoder.to(device), clips, progress=progress),
        UNTRAINED: embed(plain.encoder.to(device), clips, progress=progress),
        MEL: mel_statistics(clips, progress=progress),
    }


def evaluate(
    pretrained: Pretrained,
    clips: Clips,
    seed: int = 0,
    progress: bool = False,
    device: str = "cpu",
    given: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Probe every task of `clips` with a trained encoder and with the baselines.

    Args:
        pretrained: of `slicer_lite.load`.
        clips: with at least one task that has a train and a test split.
        seed: of the untrained encoder's weights and the probes' folds.
        progress: show bars.
        device: that the encoders run on.
        given: features to probe, if they have been computed already or others are wanted; by default `features`.

    Returns:
        `tasks`: for each task, for each kind of features and the majority class, what `Accuracy.to_dict` gives;
        `average`: the mean accuracy over tasks of each; `average_interval`: its `[low, high]` (95 %), None where a
        task has no interval; `differences`: how far the first lies above each other on average, `difference`, `low`
        and `high`, compared on the same clips; `about`: what is needed to repeat it.

    Raises:
        ValueError: no task has both a train and a test split, or `given` are not of these clips; a seed that is none.
    """
    check_seed(seed)
    tasks = probed_tasks(clips)
    probed = features(pretrained, clips, seed, progress, device) if given is None else given
    for name, x in probed.items():
        check_features(x, clips, name)
    results = {}
    for task in tasks:
        rows = rows_of(clips, task)
        results[task] = {name: quick_probe(x, rows, seed) for name, x in probed.items()}
        results[task][MAJORITY] = majority_of(rows)
    accuracies = {
        task: {name: accuracy.to_dict() for name, accuracy in row.items()} for task, row in results.items()
    }
    return {
        "tasks": accuracies,
        **over_tasks(list(accuracies.values()), [*probed, MAJORITY]),
        "about": {
            "protocol": f"quick: {PROTOCOL}",
            "step": pretrained.step,
            "config": pretrained.config.to_dict(),
            "clips": {"number": len(clips), "fingerprint": clips.fingerprint()},
            "seed": seed,
            "versions": {
                "slicer_lite": slicer_lite.__version__,
                "torch": torch.__version__,
                "scikit-learn": sklearn.__version__,
            },
        },
    }


def probed_tasks(clips: Clips) -> list[str]:
    """The tasks of `clips` that have a train and a test split.

    Those whose labels do not fit are left out with a warning.

    Raises:
        ValueError: none is left.
    """
    tasks, left_out = [], []
    for task in clips.tasks:
        rows = rows_of(clips, task)
        if {"train", "test"} <= set(rows["split"]):
            try:
                check_rows(rows)
                tasks.append(task)
            except ValueError as error:
                left_out.append((task, error))
    if not tasks:
        splits = "".join(
            f" {task}: {', '.join(split or 'no split' for split in sorted(set(rows_of(clips, task)['split'])))}."
            for task in clips.tasks[:5]
        )
        raise ValueError(
            "No task can be probed: a task needs labelled clips in a train and in a test split (columns `path`, "
            "`label` and `split` of a file manifest.csv in the clips' folder, or of a CSV file given as data). "
            f"Found: {len(clips)} clip{'s' * (len(clips) > 1)}"
            f"{'; their splits:' if splits else ' without labels.'}{splits or _tables(clips)}"
            + "".join(f" {task}: {reason}" for task, reason in left_out)
        )
    for task, reason in left_out:
        warnings.warn(f"{task}: left out. {reason}", stacklevel=3)
    return tasks


def _tables(clips: Clips) -> str:
    """A sentence on tables that lie where the clips do, and that nobody reads by themselves."""
    folder = Path(os.path.commonpath([path.parent.absolute() for path in clips.paths]))
    tables = sorted(path.name for path in folder.glob("[!.]*") if path.suffix in (".csv", ".tsv", ".jsonl"))
    return f" {folder} holds {', '.join(tables[:3])}, which are not read by themselves." if tables else ""


def as_text(results: Mapping[str, Any]) -> str:
    """The accuracies of `evaluate` as a table for the terminal, in per cent, and what the intervals stand on."""
    names = list(results["average"])
    lines = [["", *names], *lines_of(results, names, PLAIN)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join([head.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))])
        for head, *cells in lines
    ]
    return "\n".join([*table, basis(results)])


def over_tasks(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Averages over tasks with their intervals, and how far the first name lies above each other: see `evaluate`."""
    first, *others = names

    def bounds(interval: intervals.Interval | None) -> list[float | None]:
        return [None, None] if interval is None else [interval.low, interval.high]

    if not rows:
        nothing = dict.fromkeys(names)
        return {
            "average": nothing,
            "average_interval": {name: bounds(None) for name in names},
            "differences": {},
        }
    average = {name: float(np.mean([row[name]["accuracy"] for row in rows])) for name in names}
    reach = {name: bounds(intervals.mean([intervals.of(row[name]) for row in rows])) for name in names}
    differences = {}
    for name in others:
        low, high = bounds(intervals.mean([intervals.difference(row[first], row[name]) for row in rows]))
        differences[name] = {"difference": average[first] - average[name], "low": low, "high": high}
    return {"average": average, "average_interval": reach, "differences": differences}


PLAIN = "{:.1f} ({:.1f} to {:.1f})"  # an accuracy and its interval


def shown(form: str, value: float | None, low: float | None, high: float | None) -> str:
    """An accuracy or a difference in per cent with its interval, or that it has none; nothing where it is None."""
    if value is None:
        return ""
    if low is None or high is None:
        return f"{100 * value:.1f} (no interval)"
    return form.format(100 * value, 100 * low, 100 * high)


def lines_of(results: Mapping[str, Any], names: Sequence[str], form: str) -> list[list[str]]:
    """A line a task, the averages, and how far the first lies above the others; empty for what is not known."""
    unknown = dict.fromkeys(("accuracy", "low", "high"))
    lines = []
    for task, row in results["tasks"].items():
        cells = [row.get(name, unknown) for name in names]
        lines.append([task, *(shown(form, *(cell[key] for key in unknown)) for cell in cells)])
    average, reach = results["average"], results["average_interval"]
    lines.append(["average", *(shown(form, average[name], *reach[name]) for name in names)])
    if results["differences"]:
        apart = [results["differences"][name].values() for name in names[1:]]
        lines.append([f"{names[0]} ahead by", "", *(shown(form, *values) for values in apart)])
    return lines


def basis(results: Mapping[str, Any]) -> str:
    """What the intervals stand on: for each task the number of groups of test clips."""
    lines: dict[str, list[str]] = {}
    for task, row in results["tasks"].items():
        cell = next(iter(row.values()))
        groups = cell.get("groups")
        if cell["low"] is None:
            kind = "No interval, since a class has one or two groups of test clips"
        elif groups is None:
            kind = "Of clips taken as independent, since their groups are not stored"
        elif groups == cell["clips"]:
            kind = "Of single clips, since each is a group of its own"
        else:
            kind, task = "Of groups of test clips (speakers, places), not of single clips", f"{task} {groups}"
        lines.setdefault(kind, []).append(task)
    return "Intervals (95 %). " + " ".join(f"{kind}: {', '.join(tasks)}." for kind, tasks in lines.items())


def rows_of(clips: Clips, task: str) -> pd.DataFrame:
    """The rows of a task: a label, a split and a group of each of its clips.

    Raises:
        ValueError: there is no task of that name.
    """
    if task not in clips.tasks:
        raise ValueError(f"There is no task {task!r}: the tasks are {', '.join(clips.tasks) or 'none'}.")
    return clips.rows[clips.rows["task"] == task]
