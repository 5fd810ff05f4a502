"""How fast something is learnt: accuracy along a run, and against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from slicer_lite.audio.store import Clips
from slicer_lite.explore.embed import embed
from slicer_lite.probe.evaluate import probed_tasks, rows_of
from slicer_lite.probe.linear import check_features, quick_probe
from slicer_lite.share.weights import load
from slicer_lite.training.run_folder import TIMINGS, read_lines


def learning_curve(run_dir: str | Path, clips: Clips) -> pd.DataFrame:
    """Probe the snapshots of a run: every task that has a train and a test split, by `quick_probe`.

    Args:
        run_dir: of a run.
        clips: to probe.

    Returns:
        A row for each snapshot; columns `step`, `clips_seen`, `seconds` (of training, pauses left out; NaN where a
        run that goes on, or was killed, has not noted them) and `accuracy` (mean over tasks, 0 to 1).

    Raises:
        FileNotFoundError: the folder holds no snapshots.
        ValueError: `clips` has no task to probe.
    """
    run_dir = Path(run_dir).expanduser()
    paths = list((run_dir / "snapshots").glob("step-*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"{run_dir} holds no snapshots: is it a run folder?")
    elapsed = _elapsed(run_dir)
    rows = []
    tasks = probed_tasks(clips)
    for path in paths:
        model = load(path)
        x = embed(model.encoder, clips)
        accuracies = [quick_probe(x, rows_of(clips, task)).accuracy for task in tasks]
        rows.append(
            {
                "step": model.step,
                "clips_seen": model.step * model.config.batch_size,
                "seconds": elapsed.get(model.step, np.nan),
                "accuracy": float(np.mean(accuracies)),
            }
        )
    return pd.DataFrame(rows).sort_values("step", ignore_index=True)


def label_curve(
    features: Mapping[str, np.ndarray],
    clips: Clips,
    tasks: Sequence[str] | None = None,
    labels: Sequence[int] = (5, 10, 20),
    draws: int = 3,
) -> pd.DataFrame:
    """Probes that are given few labels: some random training clips of each class, and all of them.

    A validation split, where there is one, chooses the classifier's C each time, as in `quick_probe`.

    Args:
        features: `(N, D)` arrays of the clips, by name: see `features`.
        clips: with the labels.
        tasks: their names; by default all that have a train and a test split.
        labels: how many of each class, at least 2 where there is no validation split; a class that has fewer gives
            all of its own.
        draws: how often they are drawn. Every kind of features is given the same.

    Returns:
        A row for each probe; columns `task`, `features`, `count` (as in `labels`, or `all`), `labels` (those really
        used, a class), `draw` and `accuracy` (0 to 1).

    Raises:
        ValueError: features that are not of these clips; no task to probe, or none of a name; less than one label.
    """
    for name, x in features.items():
        check_features(x, clips, name)
    if any(count < 1 for count in labels):
        raise ValueError(f"labels = {tuple(labels)}: at least 1 of each class must be asked for.")
    results = []
    for task, rows in [(task, rows_of(clips, task)) for task in tasks or probed_tasks(clips)]:
        training = rows["split"] == "train"
        train, others = rows[training], rows[~training]
        names = train["label"].to_numpy(str)
        for count in (*labels, None):
            for draw in range(draws if count else 1):
                chosen = train.iloc[few(names, count, draw)] if count else train
                each = len(chosen) / len(set(names))
                for name, x in features.items():
                    result = quick_probe(x, pd.concat([chosen, others]))
                    results.append((task, name, str(count or "all"), each, draw, result.accuracy))
    return pd.DataFrame(results, columns=["task", "features", "count", "labels", "draw", "accuracy"])


def few(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Places of `count` random items of each label, or of all that it has."""
    order = np.random.default_rng(seed).permutation(len(labels))
    place = pd.Series(order).groupby(labels[order]).cumcount()  # within its label
    return order[place < count]


def _elapsed(run_dir: Path) -> dict[int, float]:
    """Seconds of training by step. The run's clock starts anew whenever the run is taken up again."""
    lines = read_lines(run_dir / TIMINGS)
    total, before, heard, by_step = 0.0, 0.0, 0.0, {0: 0.0}
    for line in lines:
        now, clips = line["seconds"], line["seconds"] * line["clips_per_second"]  # since the clock's start
        # The number of clips grows from step to step, but for rounding of the product.
        begun_anew = clips < heard * (1 + 1e-9)
        total += now if begun_anew else now - before
        before, heard = now, clips
        by_step[int(line["step"])] = total
    return by_step
