"""Are the labels of the sound world in the sound, and not in its average spectrum?

Two readers of the same train and test halves, eight tasks, accuracy on the test half in percent:

- `mean_spectrum`: logistic regression on the mean and the deviation over time of each of 64 log-mel bands. It
  should do badly: under 75 on average.
- `supervised`: an AudioNTT encoder trained from scratch with the labels of all tasks, a head for each
  (`slicer_lite.probe.supervised`). It should do well, over 90 on average: the labels can be heard within windows of
  0.95 s.

    python benchmarks/sound_world.py [--out FILE] [--epochs N] [--clips N]
"""

import argparse
import csv
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
import sklearn
import soundfile
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import slicer_lite as sl
from slicer_lite.method.logmel import LogMel
from slicer_lite.probe.supervised import supervised
from slicer_lite.sounds import TASKS, make_sounds

CHANNELS, DIM = 32, 256


class World:
    """Every clip's log-mel, and for each task the clip numbers and label numbers of both halves."""

    def __init__(self, folder: Path):
        with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        paths = list(dict.fromkeys(row["path"] for row in rows))
        number = {path: i for i, path in enumerate(paths)}
        self.samples: list[int] = []
        self.lms: list[Tensor] = []  # (64, T) each
        log_mel = LogMel()
        for path in paths:
            waveform, _ = soundfile.read(folder / path, dtype="float32")
            self.samples.append(len(waveform))
            self.lms.append(log_mel(torch.from_numpy(waveform)[None])[0, 0])
        self.halves: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        for task, labels in TASKS.items():
            self.halves[task] = {}
            for split in ("train", "test"):
                mine = [r for r in rows if r["task"] == task and r["split"] == split]
                clips = torch.tensor([number[r["path"]] for r in mine])
                self.halves[task][split] = clips, torch.tensor([labels.index(r["label"]) for r in mine])


def mean_spectrum(world: World) -> dict[str, float]:
    """Test accuracy of each task from time averages only."""
    features = np.stack([torch.cat([x.mean(1), x.std(1)]).numpy() for x in world.lms])  # (N, 128)
    accuracy = {}
    for task, halves in world.halves.items():
        (train, train_y), (test, test_y) = halves["train"], halves["test"]
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        probe.fit(features[train], train_y.numpy())
        accuracy[task] = 100 * float(probe.score(features[test], test_y.numpy()))
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sound_world.json")
    parser.add_argument("--epochs", type=int, default=40, help="of the supervised encoder")
    parser.add_argument("--clips", type=int, default=3200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        begin = time.perf_counter()
        folder = make_sounds(Path(temporary) / "world", arguments.clips)
        making = time.perf_counter() - begin
        world = World(folder)
        os.environ["SLICER_LITE_CACHE"] = temporary  # the decoded clips go with the folder
        clips = sl.load_clips(folder)
    results = {"mean_spectrum": mean_spectrum(world)}
    begin = time.perf_counter()
    found = supervised(clips, clips.rows, CHANNELS, DIM, arguments.epochs, validate=False, progress=True)
    results["supervised"] = {task: 100 * accuracy.accuracy for task, accuracy in found.items()}
    training = time.perf_counter() - begin
    for name, accuracy in results.items():
        accuracy["average"] = float(np.mean(list(accuracy.values())))
        print(f"{name:14}", "  ".join(f"{task} {value:.1f}" for task, value in accuracy.items()))
    report = {
        "what": "test accuracy in percent; see benchmarks/sound_world.py",
        "wanted": {"mean_spectrum": "average under 75", "supervised": "average over 90"},
        "accuracy": {name: {k: round(v, 1) for k, v in a.items()} for name, a in results.items()},
        "chance": {task: round(100 / len(labels), 1) for task, labels in TASKS.items()},
        "test_clips": {task: len(halves["test"][0]) for task, halves in world.halves.items()},
        "train_clips": {task: len(halves["train"][0]) for task, halves in world.halves.items()},
        "clips": arguments.clips,
        "mean_seconds": round(float(np.mean(world.samples)) / 16_000, 3),
        "encoder": {"channels": CHANNELS, "dim": DIM, "epochs": arguments.epochs},
        "seconds": {"making": round(making, 1), "training": round(training, 1)},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": {"python": platform.python_version()}
        | {module.__name__: module.__version__ for module in (np, scipy, sklearn, torch)},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
