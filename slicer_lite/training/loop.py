"""The training loop: read clips, make views, take the loss, step; and tell those who watch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from slicer_lite.audio.store import Clips
from slicer_lite.base import distributed
from slicer_lite.base.device import autocast
from slicer_lite.base.randomness import clip_order, generator, seeded
from slicer_lite.config import Config
from slicer_lite.method.method import running_statistics
from slicer_lite.method.registry import new_method
from slicer_lite.method.views import Draws, TwoViews, fit_views, random_starts
from slicer_lite.share.heard import Heard
from slicer_lite.share.weights import save_weights
from slicer_lite.training import footprint, health, run_folder
from slicer_lite.training.checkpoint import (
    load_checkpoint,
    load_into,
    load_optimizer_state,
    newest_step,
    optimizer_state,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from slicer_lite.training.cuda_graph import Replayed
from slicer_lite.training.muon import Muon

HEALTH_EVERY = 20  # steps


class Watcher:
    """Entered before the first step, called after each, left at the end, with the error if there was one."""

    def __enter__(self) -> Self:
        return self

    def __call__(self, metrics: dict[str, float], timings: dict[str, float]) -> None:
        """After a step: its metrics, and what depends on the clock."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """At the end."""


def train(training: Training, watchers: Sequence[Watcher], stopped: Callable[[], bool]) -> None:
    """Train until the last step, or until `stopped()` in any process; every watcher is told of every step."""
    pace = Pace(training)
    with ExitStack() as watching:
        for watcher in watchers:
            watching.enter_context(watcher)
        while training.step < training.config.steps and not distributed.any_process(stopped()):
            metrics = training.one_step()
            timings = pace.of(metrics)
            for watcher in watchers:
                watcher(metrics, timings)


class Batch(NamedTuple):
    """What a step reads: which clips, their windows of sound, and what chance decides about their views."""

    clips: Tensor  # (B,) numbers
    window: Tensor  # (B, 15200) int16
    second_window: Tensor | None  # likewise, for view 2, with config.two_windows
    draws: Draws


class Training:
    """A run in progress: model, views, optimiser and the step that they are at.

    Args:
        makes_model: makes the method with fresh weights; by default that of the settings.
        spare: bytes of the device that are free beside a step; see `footprint.check`.
    """

    def __init__(
        self,
        config: Config,
        clips: Clips,
        run: Path,
        device: torch.device,
        compile: bool = False,
        makes_model: footprint.MakesModel = None,
        spare: int | None = None,
    ):
        self.config, self.clips, self.run_dir, self.device = config, clips, run, device
        self.made_with = run_folder.made_with(config, device, compile)
        # The first process writes the weights.
        self.heard = Heard.of(clips) if distributed.rank() == 0 else None
        # Sound that takes little of a GPU's memory stays there: cutting windows then costs no time of the CPU's.
        if device.type == "cuda" and footprint.has_room_for_sound(device, clips.nbytes, spare):
            self.clips = clips.on(device)
        with seeded(generator(config.seed, 0, "weights").initial_seed()):
            self.model = (makes_model or partial(new_method, config))().to(device)
        saved = load_checkpoint(run / "checkpoints")
        if saved is None:
            self.step = 0
            self.views = fit_views(config, clips, device)
            for network in self._networks():
                network.encoder.mean.copy_(self.views.mean)
                network.encoder.deviation.copy_(self.views.deviation)
            self.optimizer = self._optimizer()
        else:
            self.step, state, about = saved
            if distributed.rank() == 0 and self.step < config.steps:
                run_folder.warn_of_changes(run, about.get("made_with", {}), self.made_with)
            views = without_prefix("views", state)
            self.views = TwoViews(
                config, views["mean"].item(), views["deviation"].item(), views.get("mixer.centroids")
            ).to(device)
            # (Checkpoints of version 0.1 hold k-mix's memory, too.)
            load_into(self.views, {name: views[name] for name in self.views.state_dict() if name in views})
            load_into(self.model, without_prefix("model", state))
            self.optimizer = self._optimizer()
            load_optimizer_state(self.optimizer, without_prefix("optimizer", state))
        self.waited = 0.0  # seconds spent on waiting for clips
        self._batch: Batch | None = None  # drawn for the coming step
        if compile:
            # For these shapes alone: sizes that may change make slower kernels.
            for network in self._networks():
                network.compile(dynamic=False)
        self._work: Callable[[Batch], Any] = self._step
        if device.type == "cuda" and distributed.size() == 1:  # messages between processes cannot be recorded
            self._work = Replayed(self._step, device)
        self.model.train()

    def join(self) -> None:
        """Make all processes begin alike, batch norms see the whole batch where that is possible, k-mix remember."""
        if distributed.size() > 1:
            distributed.same_everywhere(self.model)
            distributed.same_everywhere(self.views)
            if self.device.type == "cuda":  # on CPUs each process normalises by its own part
                for name in self.model.shared:
                    part = self.model.get_submodule(name)
                    setattr(self.model, name, nn.SyncBatchNorm.convert_sync_batchnorm(part))
        self._remember()

    def _remember(self) -> None:
        """Fill k-mix's memory, of a run that goes on, with the inputs of its last steps: the same bits as then."""
        mixer, size = self.views.mixer, self.config.batch_size
        if mixer is None or self.step >= self.config.steps:
            return
        first = max(self.step - math.ceil(len(mixer.memory) / size), 0)
        mixer.pushed.fill_(first * size)
        for step in range(first, self.step):
            window = self._windows(self._order(step), step, "window")
            mixer.push(distributed.gather(self.views.inputs(window.to(self.device))))

    def one_step(self) -> dict[str, float]:
        """Train on one batch. Everything random in it is a function of the seed and the step's number."""
        config = self.config
        batch = self._batch if self._batch is not None else self._draw(self.step)
        rate = learning_rate(config, self.step)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        watched = (self.step + 1) % HEALTH_EVERY == 0 or self.step + 1 in (1, config.steps)
        before = copy.deepcopy(self._networks()) if watched else None
        purpose = f"dropout of process {distributed.rank()}"
        with seeded(generator(config.seed, self.step, purpose).initial_seed(), self.device):
            losses, answers = self._work(batch)
        # Until a GPU has done all this, the next batch is drawn.
        self._batch = self._draw(self.step + 1) if self.step + 1 < config.steps else None
        whole = torch.stack([*losses.values()])
        distributed.average([whole])
        parts = dict(zip(losses, whole.tolist(), strict=True))
        if not math.isfinite(parts["total"]):
            raise FloatingPointError(
                f"Step {self.step + 1}: {', '.join(f'{name} = {value}' for name, value in parts.items())}. "
                + self._last_good()
            )
        self.step += 1
        metrics = {"step": self.step, **parts, "learning_rate": rate}
        if before is not None:
            gathered = {name: distributed.gather(answer) for name, answer in answers.items()}
            metrics |= health.measure(gathered, self._networks(), before)
        return metrics

    def _step(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The arithmetic of a step: its losses, and those answers of the networks that health is measured of.

        All of it is work for the device that does not depend on what the numbers are, so that it can be replayed.
        """
        inputs = self.views.inputs(batch.window.to(self.device))
        second = None
        if batch.second_window is not None:
            second = self.views.inputs(batch.second_window.to(self.device))
        view1, view2 = self.views.drawn(inputs, batch.draws, second)
        with autocast(self.config, self.device):
            losses, answers = self.model.step(view1, view2, batch.clips.to(self.device))
        losses["total"].backward()
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        distributed.average([*gradients, *running_statistics(self.model.student)])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {name: loss.detach() for name, loss in losses.items()}, self.model.watched(*answers)

    def _draw(self, step: int) -> Batch:
        """This process's part of a step's batch."""
        config = self.config
        order = self._order(step)
        first = self._windows(order, step, "window")
        second = self._windows(order, step, "second window") if config.two_windows else None
        draws = self.views.draw(config.batch_size, config.seed, step)
        return Batch(distributed.mine(order), first, second, draws)

    def _windows(self, order: Tensor, step: int, purpose: str) -> Tensor:
        starts = random_starts(self.clips, order, generator(self.config.seed, step, purpose))
        asked = time.perf_counter()
        waveform = self.clips.windows(distributed.mine(order).numpy(), distributed.mine(starts).numpy())
        self.waited += time.perf_counter() - asked
        return waveform

    def _order(self, step: int) -> Tensor:
        """The clips of a step, of all processes."""
        return clip_order(len(self.clips), self.config.batch_size, self.config.seed, step)

    def save(self) -> None:
        """Write a checkpoint: everything that the rest of the run depends on.

        Raises:
            FloatingPointError: the weights are not finite; the checkpoints from before that are kept.
        """
        if not all(weight.isfinite().all() for weight in self.model.student.parameters()):
            raise FloatingPointError(f"Step {self.step}: the weights are not finite. {self._last_good()}")
        state = {
            **with_prefix("model", self.model.state_dict()),
            **with_prefix("views", self.views.state_dict()),
            **with_prefix("optimizer", optimizer_state(self.optimizer)),
        }
        about = {"config": self.config.to_dict(), "made_with": self.made_with}
        save_checkpoint(self.run_dir / "checkpoints", self.step, state, about)

    def _last_good(self) -> str:
        step, folder = newest_step(self.run_dir / "checkpoints"), self.run_dir / "checkpoints"
        kept = (
            "No state was saved before."
            if step is None
            else f"The last good state, of step {step}, is in {folder}."
        )
        return f"{kept} Lower learning_rate and begin again in another folder."

    def _optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]  # not the teacher's
        # On a GPU a tensor, so that it can change from one replay of the step to the next.
        on_gpu = self.device.type == "cuda"
        rate: Any = torch.tensor(config.learning_rate, device=self.device) if on_gpu else config.learning_rate
        if config.optimizer in ("adamw", "muon"):
            kind = Muon if config.optimizer == "muon" else torch.optim.AdamW
            return kind(weights, rate, weight_decay=config.weight_decay, fused=True, capturable=on_gpu)
        return torch.optim.SGD(weights, rate, config.momentum, weight_decay=config.weight_decay, fused=True)

    def save_weights(self, path: Path) -> None:
        """Write what `slicer_lite.load` reads: the student, and what belongs to it."""
        mixer = self.views.mixer if self.config.mixing == "kmix" else None
        centroids = None if mixer is None else mixer.centroids
        save_weights(path, self.model.student, centroids, self.config, self.step, self.heard)

    def _networks(self) -> list[Any]:
        """The student, and the teacher of methods that have one."""
        return [network for network in (self.model.student, self.model.teacher) if network is not None]


class Pace:
    """How fast a run goes, and how much of the time it waits for clips."""

    def __init__(self, training: Training):
        self._training, self._first = training, training.step
        self._begun = self._looked = time.perf_counter()  # looked: when its health was measured last
        self._waited = training.waited  # seconds, until then

    def of(self, metrics: dict[str, float]) -> dict[str, float]:
        """`seconds` since the beginning, `clips_per_second`, and `waiting`.

        That is a share of the time since health was last measured.
        """
        now, waited = time.perf_counter(), self._training.waited
        done = (self._training.step - self._first) * self._training.config.batch_size
        pace = {
            "seconds": now - self._begun,
            "clips_per_second": done / (now - self._begun),
            "waiting": (waited - self._waited) / (now - self._looked),
        }
        if "rank" in metrics:
            self._looked, self._waited = now, waited
        return pace


def learning_rate(config: Config, step: int) -> float:
    """The learning rate of a step: a linear warm-up, then constant or half a cosine down to zero."""
    rising = config.warmup * config.steps  # steps
    if step < rising:
        return config.learning_rate * (step + 1) / (rising + 1)
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (config.steps - rising)))
