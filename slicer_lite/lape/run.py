"""One task from waveforms to a result that can be repeated: features, baselines, probes over folds and seeds."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
import sklearn
import torch

import slicer_lite
from slicer_lite.audio.store import Clips
from slicer_lite.base.device import choose_device
from slicer_lite.base.files import parse_json
from slicer_lite.lape.choices import Baseline, Protocol
from slicer_lite.lape.tasks import TASKS
from slicer_lite.method.encoder import Encoder, FrameEncoder
from slicer_lite.probe import intervals
from slicer_lite.probe.evaluate import MAJORITY, MEL, PROTOCOL, UNTRAINED, rows_of
from slicer_lite.probe.features import data_hash, rows_hash, weights_hash, window_features
from slicer_lite.probe.linear import Accuracy, check_seed, majority_of, quick_probe, window_probe
from slicer_lite.probe.supervised import supervised
from slicer_lite.share.heard import Heard
from slicer_lite.share.weights import untrained_encoder
from slicer_lite.share.wrapped import fresh, kind_of

TRAINED_ENCODER = "trained encoder"
NAMES: dict[str, str] = {
    "supervised": "supervised",
    "untrained": UNTRAINED,
    "mel": MEL,
    "majority": MAJORITY,
}
PROTOCOLS: dict[str, str] = {
    "lape": "one linear layer on windows of 0.95 s, each trained with its clip's label; a clip's score is the mean "
    "of its windows' scores; strength of the regularisation chosen on the validation split, or by cross-validation "
    "inside the train split",
    "quick": PROTOCOL,
}


def run_task(
    encoder: FrameEncoder,
    clips: Clips,
    task: str,
    protocol: Protocol = "lape",
    seeds: Sequence[int] = (0, 1, 2),
    baselines: Sequence[Baseline] = ("untrained", "mel", "majority"),
    device: str = "auto",
    progress: bool = False,
) -> dict[str, Any]:
    """Probe one task with a trained encoder and with the baselines beside it.

    Seeds draw the untrained encoders' weights, the supervised training, and what is held out of the train split for
    choosing, where the task has no validation split. An accuracy is the mean over seeds, and over the folds of a
    task that has several; its 95 % interval is that of one count of all test clips, so it covers the choice of test
    clips and not the seeds, whose accuracies are listed beside it. It takes the groups of test clips (speakers,
    places; of a task of folds the folds) as drawn anew: see `intervals.clustered`.

    Args:
        encoder: in evaluation mode, with its input statistics set.
        clips: with rows of the task.
        task: its name in `clips`; one of `TASKS` brings its folds.
        protocol: `lape` or `quick`, see `PROTOCOLS`.
        seeds: whole numbers.
        baselines: in the order in which they are reported.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: show bars.

    Returns:
        Plain values: `task`, `results` (for each name `accuracy`, `low` and `high`, both None where a class has one
        or two groups of test clips, `clips`, their `groups`, `by_group` as of `Accuracy`, and of each seed and each
        round `runs`), and `about`: all that is needed to repeat it.

    Raises:
        ValueError: the task has no train or no test split, or none of that name is there; seeds that are none.
    """
    check_seeds(seeds)
    begun, where = time.monotonic(), str(choose_device(device))
    clips = of_task(clips, task)
    rows = rows_of(clips, task)
    rounds = _rounds(task, rows)
    lacking = [s for s in ("train", "test") if any((part["split"] == s).sum() == 0 for _, part in rounds)]
    if lacking:
        raise ValueError(f"The task {task!r} has no {lacking[0]} split.")
    data = data_hash(clips)
    tested = pd.concat([part[part["split"] == "test"] for _, part in rounds])

    def probed(of: FrameEncoder | None, seed: int) -> list[Accuracy]:
        features = window_features(of, clips, data, where, progress)
        if protocol == "lape":
            return [window_probe(features, part, seed=seed, device=where) for _, part in rounds]
        embeddings = features.of_clips()
        return [quick_probe(embeddings, part, seed=seed) for _, part in rounds]

    def trained_with_labels(seed: int) -> list[Accuracy]:
        kind = partial(fresh, encoder)
        return [
            supervised(clips, part, seed=seed, device=where, progress=progress, encoder=kind)[task]
            for _, part in rounds
        ]

    answers = {
        TRAINED_ENCODER: lambda seed: probed(encoder, seed),
        "untrained": lambda seed: probed(untrained_encoder(encoder, seed), seed),
        "mel": lambda seed: probed(None, seed),
        "majority": lambda seed: [majority_of(part) for _, part in rounds],
        "supervised": trained_with_labels,
    }
    results, seconds = {}, {}
    has_validation = all((part["split"] == "validation").any() for _, part in rounds)
    for name in (TRAINED_ENCODER, *baselines):
        at = time.monotonic()
        # Where nothing is random, one seed says all.
        once = name == "majority" or (has_validation and name in (TRAINED_ENCODER, "mel"))
        runs = {seed: answers[name](seed) for seed in (seeds[:1] if once else seeds)}
        results[NAMES.get(name, name)] = _together(runs, tested)
        seconds[NAMES.get(name, name)] = round(time.monotonic() - at, 2)
    seconds["all"] = round(time.monotonic() - begun, 2)
    return {
        "task": task,
        "results": results,
        "about": {
            "protocol": _described(protocol),
            "weights": {"sha256": weights_hash(encoder), **_kind(encoder), "dim": encoder.dim}
            | {"mean": encoder.mean.item(), "deviation": encoder.deviation.item()},
            "data": {
                "sha256": data,
                "rows": rows_hash(rows),
                "clips": len(clips),
                "rounds": [name for name, _ in rounds],
            }
            | {"splits": rows["split"].value_counts().to_dict(), "classes": int(rows["label"].nunique())},
            "differences": TASKS[task].differences(rows["split"].tolist()) if task in TASKS else [],
            "seeds": list(seeds),
            "seconds": seconds,
            "device": where,
            "threads": torch.get_num_threads(),
            "versions": {
                "python": platform.python_version(),
                "slicer_lite": slicer_lite.__version__,
                **{module.__name__: module.__version__ for module in (np, scipy, sklearn, torch)},
            },
        },
    }


def heard_of_task(heard: Heard, clips: Clips, task: str) -> dict[str, dict[str, int]]:
    """How many of a task's clips weights have heard in pre-training, as far as it is noted, split by split.

    A clip that is in several splits, as in a task of folds, counts in the strictest.

    Returns:
        For each split that there is, the strictest first: `clips`; of these `heard`; of these `by_name`, those that
        are known by their file's name alone, because another cut of them was heard.
    """
    clips = of_task(clips, task)
    by_sound, by_name = heard.among(clips)
    left = np.ones(len(clips), bool)
    counts = {}
    for split in ("test", "validation", "train"):
        of = [rows["clip"][rows["split"] == split] for _, rows in _rounds(task, rows_of(clips, task))]
        here = np.isin(np.arange(len(clips)), np.concatenate(of).astype(int)) & left
        left &= ~here
        if here.any():
            counts[split] = {
                "clips": int(here.sum()),
                "heard": int((here & (by_sound | by_name)).sum()),
                "by_name": int((here & by_name & ~by_sound).sum()),
            }
    return counts


def heard_in_words(heard: Heard, counts: dict[str, dict[str, int]]) -> str:
    """`heard_of_task` in a sentence; nothing (`''`) if none of the clips was heard."""
    at_least = "at least " * (heard.noted < heard.clips)
    parts = [
        f"{at_least}{of['heard']:,} of its {of['clips']:,} {split} clips"
        for split, of in counts.items()
        if of["heard"]
    ]
    if not parts:
        return ""
    sentence = f"in pre-training, without their labels, these weights have heard {' and '.join(parts)}"
    if at_least:
        sentence += f" ({heard.noted:,} of the {heard.clips:,} clips that they have heard are noted)"
    if named := sum(of["by_name"] for of in counts.values()):
        alone = "is known by its name alone" if named == 1 else "are known by their names alone"
        sentence += f"; {named:,} of them {alone}, since another cut was heard"
    return f"{sentence}."


def check_seeds(seeds: Sequence[int]) -> None:
    """See that there are seeds, and that probes can take them.

    Raises:
        ValueError: says what is wrong.
    """
    if not seeds:
        raise ValueError("No seed is given: a probe needs at least one.")
    for seed in seeds:
        check_seed(seed)


def is_result_of(
    path: Path,
    encoder: FrameEncoder,
    clips: Clips,
    task: str,
    protocol: Protocol,
    seeds: Sequence[int],
    baselines: Sequence[Baseline],
) -> bool:
    """Whether a file holds what `run_task` would give for these arguments, as far as it does not hang on versions.

    Raises:
        ValueError: the file holds no results.
    """
    try:
        result = parse_json(path.read_text())
        about = result["about"]
        data = about["data"]["sha256"], about["data"].get("rows")
        stored = about["weights"]["sha256"], data, about["protocol"], about["seeds"]
        names = list(result["results"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} holds no results of `lape run`: move it elsewhere.") from None
    clips = of_task(clips, task)
    data = data_hash(clips), rows_hash(rows_of(clips, task))
    wanted = weights_hash(encoder), data, _described(protocol), list(seeds)
    return stored == wanted and names == [TRAINED_ENCODER, *(NAMES[baseline] for baseline in baselines)]


def of_task(clips: Clips, task: str) -> Clips:
    """The clips that have a label in a task.

    Raises:
        ValueError: there is no task of that name.
    """
    return clips.subset(np.unique(rows_of(clips, task)["clip"].to_numpy(int)))


def _rounds(task: str, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return list(TASKS[task].rounds(rows)) if task in TASKS else [("", rows)]


def _kind(encoder: FrameEncoder) -> dict[str, Any]:
    """AudioNTT's width, or the name of another encoder's class."""
    if isinstance(encoder, Encoder):
        return {"channels": encoder.channels}
    return {"encoder": kind_of(encoder)}


def _described(protocol: Protocol) -> str:
    return f"{protocol}: {PROTOCOLS[protocol]}"


def _together(runs: dict[int, list[Accuracy]], tested: pd.DataFrame) -> dict[str, Any]:
    """The mean over seeds and rounds, and the interval of as many clips as one seed tests, the rows `tested`."""
    mean = float(np.mean([part.accuracy for parts in runs.values() for part in parts]))
    counts = [intervals.counts(" ".join(part.by_group for part in parts)) for parts in runs.values()]
    correct, clips = np.mean(counts, axis=0)  # (G,) each, over seeds
    low, high = (
        (None, None)
        if intervals.says_nothing(tested["label"].to_numpy(str), intervals.numbered(tested["group"]))
        else intervals.clustered(correct, clips, mean)
    )
    return {
        "accuracy": mean,
        "low": low,
        "high": high,
        "clips": len(tested),
        "groups": len(clips),
        "by_group": intervals.written(correct, clips),
        "runs": {str(seed): [part.to_dict() for part in parts] for seed, parts in runs.items()},
    }
