"""Every task of a data set, probed with trained features and with the baselines beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sklearn
import torch

import slicer_lite
from slicer_lite.embed import embed, mel_statistics
from slicer_lite.lape.probe import Accuracy, linear_probe, majority
from slicer_lite.store import Clips
from slicer_lite.weights import Pretrained, untrained

TRAINED, UNTRAINED, MEL, MAJORITY = "slicer", "untrained encoder", "mel mean + deviation", "majority class"


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
        TRAINED: embed(pretrained.encoder.to(device), clips, progress=progress),
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
        `tasks`: for each task, for each kind of features and the majority class, `accuracy` with `low` and
        `high` (95 %) and the number of `clips`; `average`: the mean accuracy over tasks of each; `about`: what
        is needed to repeat it.

    Raises:
        ValueError: no task has both a train and a test split.
    """
    tasks = [task for task in clips.tasks if {"train", "test"} <= set(_rows(clips, task)["split"])]
    if not tasks:
        raise ValueError(
            "No task can be probed: a task needs labelled clips in a train and in a test split (columns `label` "
            "and `split` of the manifest)."
        )
    probed = given or features(pretrained, clips, seed, progress, device)
    results = {task: _probe_task(clips, task, probed, seed) for task in tasks}
    names = [*probed, MAJORITY]
    return {
        "tasks": {
            task: {name: accuracy.to_dict() for name, accuracy in row.items()}
            for task, row in results.items()
        },
        "average": {name: float(np.mean([row[name].accuracy for row in results.values()])) for name in names},
        "about": {
            "protocol": "quick: clip embedding = mean over its windows; standardised; logistic regression, "
            "strength chosen by cross-validation inside the train split",
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


def as_text(results: Mapping[str, Any]) -> str:
    """The accuracies of `evaluate` as a table for the terminal, in per cent."""
    names = list(results["average"])
    width = max(len("average"), *map(len, results["tasks"]))
    columns = [max(len(name), len("100.0 (80.0 to 100.0)")) for name in names]
    lines = [" " * width + "  " + "  ".join(n.rjust(c) for n, c in zip(names, columns, strict=True))]
    for task, row in results["tasks"].items():
        cells = [
            f"{100 * r['accuracy']:.1f} ({100 * r['low']:.1f} to {100 * r['high']:.1f})" for r in row.values()
        ]
        lines.append(
            task.ljust(width) + "  " + "  ".join(c.rjust(w) for c, w in zip(cells, columns, strict=True))
        )
    cells = [f"{100 * value:.1f}" for value in results["average"].values()]
    lines.append(
        "average".ljust(width) + "  " + "  ".join(c.rjust(w) for c, w in zip(cells, columns, strict=True))
    )
    return "\n".join(lines)


def _probe_task(
    clips: Clips, task: str, features: Mapping[str, np.ndarray], seed: int
) -> dict[str, Accuracy]:
    rows = _rows(clips, task)
    train, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    groups = train["group"] if (train["group"] != "").all() else None
    results = {
        name: linear_probe(
            x[train["clip"]], train["label"], x[test["clip"]], test["label"], groups, seed=seed
        )
        for name, x in features.items()
    }
    return {**results, MAJORITY: majority(train["label"], test["label"])}


def _rows(clips: Clips, task: str) -> Any:
    return clips.rows[clips.rows["task"] == task]
