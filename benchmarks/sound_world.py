"""Are the labels of the sound world in the sound, and not in its average spectrum?

Two readers of the same train and test halves, eight tasks, accuracy on the test half in percent:

- `mean_spectrum`: logistic regression on the mean and the deviation over time of each of 64 log-mel bands. It
  should do badly: under 75 on average.
- `supervised`: an AudioNTT encoder trained from scratch with the labels of all tasks, a head for each. It
  should do well, over 90 on average: the labels can be heard within windows of 0.95 s.

    python benchmarks/sound_world.py [--out FILE] [--epochs N]
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
from torch import Tensor, nn
from torch.nn import functional as F

from slicer_lite.encoder import Encoder
from slicer_lite.logmel import LogMel
from slicer_lite.sounds import TASKS, make_sounds

FRAMES, WINDOW = 96, 15_200  # one window: frames, samples
CHANNELS, DIM, BATCH = 32, 256, 64


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

    def windows(self, clip: int) -> Tensor:
        """(W, 1, 64, 96) windows spaced evenly from the clip's start to its end."""
        count = max(1, self.samples[clip] // WINDOW)
        starts = np.linspace(0, self.lms[clip].shape[1] - FRAMES, count).astype(int)
        return torch.stack([self.lms[clip][None, :, start : start + FRAMES] for start in starts])


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


def supervised(world: World, epochs: int, seed: int = 0) -> dict[str, float]:
    """Test accuracy of each task from an encoder trained on all of them together."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = Encoder(channels=CHANNELS, dim=DIM)
    heads = nn.ModuleDict({task: nn.Linear(DIM, len(labels)) for task, labels in TASKS.items()})
    labels = torch.full((len(world.lms), len(TASKS)), -100)  # -100: cross_entropy leaves it out
    for column, halves in enumerate(world.halves.values()):
        clips, y = halves["train"]
        labels[clips, column] = y
    training = torch.nonzero((labels >= 0).any(1))[:, 0].numpy()
    everything = torch.cat([world.lms[i] for i in training], dim=1)
    mean, deviation = everything.mean(), everything.std()

    steps = epochs * (len(training) // BATCH)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        order = rng.permutation(training)
        for chosen in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
            x = (torch.stack([_random_window(world.lms[i], rng) for i in chosen])[:, None] - mean) / deviation
            with torch.autocast("cpu", torch.bfloat16):
                embedding = Encoder.pool(encoder(x))
            losses = [
                F.cross_entropy(head(embedding.float()), labels[chosen, column], reduction="sum") / BATCH
                for column, head in enumerate(heads.values())
            ]
            loss = torch.stack(losses).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    encoder.eval()
    accuracy = {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for task, halves in world.halves.items():
            test, y = halves["test"]
            views = [world.windows(int(i)) for i in test]
            x = (torch.cat(views) - mean) / deviation
            scores = torch.cat([heads[task](Encoder.pool(encoder(part))) for part in x.split(128)]).float()
            clip_scores = torch.stack([s.mean(0) for s in scores.split([len(v) for v in views])])
            accuracy[task] = 100 * float((clip_scores.argmax(1) == y).float().mean())
    return accuracy


def _random_window(lms: Tensor, rng: np.random.Generator) -> Tensor:
    """(64, 96): a random window, a random gain, and one random band and moment flattened."""
    start = int(rng.integers(lms.shape[1] - FRAMES + 1))
    window = lms[:, start : start + FRAMES] + rng.normal(0, 1)
    low, first = int(rng.integers(64)), int(rng.integers(FRAMES))
    mean = window.mean()
    window[low : low + int(rng.integers(10))] = mean
    window[:, first : first + int(rng.integers(12))] = mean
    return window


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
    results = {"mean_spectrum": mean_spectrum(world)}
    begin = time.perf_counter()
    results["supervised"] = supervised(world, arguments.epochs)
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
        "encoder": {"channels": CHANNELS, "dim": DIM, "epochs": arguments.epochs, "batch": BATCH},
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
