"""Who watches a run: each is told of every step, and none of them changes what is learnt."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
from tqdm.auto import tqdm

from slicer_lite.base import distributed
from slicer_lite.training import health
from slicer_lite.training.loop import Training, Watcher
from slicer_lite.training.run_folder import Log

SNAPSHOTS = 10  # weights kept along the way, at log-spaced steps
_CHECKPOINT_SHARE = 0.02  # of the time may go into checkpoints


def usual(
    training: Training,
    on_step: Callable[[dict[str, float]], None] | None,
    progress: bool,
    tensorboard: bool,
    checkpoint_seconds: float,
) -> list[Watcher]:
    """Those of `pretrain`, in the order in which they are told; of several processes the first keeps the books."""
    if distributed.rank() > 0:
        return []
    log = Logging(training, tensorboard)
    bar = Bar(training, progress)
    told = [Caller(on_step)] if on_step is not None else []
    return [
        log,
        Snapshots(training),
        bar,
        Monitor(bar),
        *told,
        Checkpoints(training, log, checkpoint_seconds),
    ]


class Logging(Watcher):
    """Notes every step in `metrics.jsonl` and `timings.jsonl`, and for TensorBoard if wanted."""

    def __init__(self, training: Training, tensorboard: bool):
        self._training, self._tensorboard = training, tensorboard

    def __enter__(self) -> Self:
        self.log = Log(self._training.run_dir, self._training.step, self._tensorboard)
        return self

    def __call__(self, metrics: dict[str, float], timings: dict[str, float]) -> None:
        self.log.write(metrics, timings)

    def __exit__(self, *error: object) -> None:
        self.log.__exit__(*error)


class Snapshots(Watcher):
    """Keeps weights along the way, for looking back: of the untrained network, and of ten log-spaced steps."""

    def __init__(self, training: Training):
        self._training = training
        self._steps = {round(step) for step in np.geomspace(1, training.config.steps, SNAPSHOTS)}

    def __enter__(self) -> Self:
        if self._training.step == 0:
            self._keep()
        return self

    def __call__(self, metrics: dict[str, float], timings: dict[str, float]) -> None:
        if metrics["step"] in self._steps:
            self._keep()

    def _keep(self) -> None:
        folder = self._training.run_dir / "snapshots"
        folder.mkdir(exist_ok=True)
        self._training.save_weights(folder / f"step-{self._training.step:08d}.safetensors")


class Bar(Watcher):
    """Shows how far the run is, and what it is told to say."""

    def __init__(self, training: Training, progress: bool):
        self._training, self._progress = training, progress

    def __enter__(self) -> Self:
        steps, done = self._training.config.steps, self._training.step
        self._bar = tqdm(total=steps, initial=done, desc="training", unit="step", disable=not self._progress)
        return self

    def __call__(self, metrics: dict[str, float], timings: dict[str, float]) -> None:
        self._bar.update()
        rate = f"{timings['clips_per_second']:.0f}"
        self._bar.set_postfix(loss=f"{metrics['total']:.3f}", clips_per_s=rate, refresh=False)

    def say(self, sentence: str) -> None:
        """Write a line above the bar."""
        self._bar.write(sentence)

    def __exit__(self, *error: object) -> None:
        self._bar.close()


class Monitor(Watcher):
    """Says what looks wrong with the run's health, each illness once until it is over."""

    def __init__(self, bar: Bar):
        self._bar = bar
        self._said: set[str] = set()

    def __call__(self, metrics: dict[str, float], timings: dict[str, float]) -> None:
        if "rank" not in metrics:
            return
        settled = metrics["step"] >= health.SETTLED
        sentences = health.diagnose({**metrics, **timings}) if settled else []
        illnesses = {sentence.partition(":")[0]: sentence for sentence in sentences}
        for illness in illnesses.keys() - self._said:
            self._bar.say(f"step {metrics['step']}: {illnesses[illness]}")
        self._said = set(illnesses)


class Caller(Watcher):
    """Tells the caller of `pretrain`."""

    def __init__(self, on_step: Callable[[dict[str, float]], None]):
        self._on_step = on_step

    def __call__(self, metrics: dict[str, float], timings: dict[str, float]) -> None:
        self._on_step({**metrics, **timings})


class Checkpoints(Watcher):
    """Saves the whole state as often as that costs little time, at least every so many seconds, and at the end."""

    def __init__(self, training: Training, logging: Logging, seconds: float):
        self._training, self._logging, self._seconds = training, logging, seconds

    def __enter__(self) -> Self:
        self._first = self._training.step
        self._saved, self._cost = time.perf_counter(), 0.0
        return self

    def __call__(self, metrics: dict[str, float], timings: dict[str, float]) -> None:
        now = time.perf_counter()
        if now - self._saved > min(self._seconds, self._cost / _CHECKPOINT_SHARE):
            self._save()
            self._saved = time.perf_counter()
            self._cost = self._saved - now

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        training = self._training
        none_there = not any((training.run_dir / "checkpoints").glob("step-*"))
        if kind is None and (training.step > self._first or none_there):
            self._save()

    def _save(self) -> None:
        self._logging.log.flush()  # a checkpoint is never ahead of the log
        self._training.save()
