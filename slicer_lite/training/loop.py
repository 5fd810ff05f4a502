"""The training loop: read clips, make views, take the loss, step; and never lose what was learnt."""

from __future__ import annotations

import copy
import gc
import io
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from slicer_lite.audio.store import Clips, load_clips
from slicer_lite.base import distributed
from slicer_lite.base.device import autocast, choose_device, keep_freed_blocks, trains_in_bf16
from slicer_lite.base.files import write_durably
from slicer_lite.base.randomness import clip_order, generator, seeded
from slicer_lite.config import Config
from slicer_lite.explore import figures
from slicer_lite.method.moco import running_statistics
from slicer_lite.method.slicer import SLICER
from slicer_lite.method.views import Draws, TwoViews, fit_views, random_starts
from slicer_lite.share.heard import Heard
from slicer_lite.share.weights import METHODS, WEIGHTS, Pretrained, load, load_finished, save_weights
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
SETTLED = 50  # steps before which a network that has just begun is not called ill
SNAPSHOTS = 10  # weights kept along the way, at log-spaced steps
_SAVE_SHARE = 0.02  # of the time may go into checkpoints …
_SAVE_SECONDS = 30.0  # … but one is written at least this often


def pretrain(
    config: Config,
    clips: Clips | str | Path | Sequence[np.ndarray],
    run_dir: str | Path,
    steps: int | None = None,
    device: str = "auto",
    progress: bool = True,
    on_step: Callable[[dict[str, float]], None] | None = None,
    stop: threading.Event | None = None,
    tensorboard: bool = False,
    compile: bool = False,
    strict: bool = False,
    allow_outside: bool = False,
) -> Pretrained:
    """Pre-train SLICER (or another `config.method`), or go on with a run that was stopped.

    The run folder explains itself: `config.json`, `metrics.jsonl` (one line a step), `timings.jsonl`,
    `checkpoints/` (the last two), `snapshots/` (weights along the way), `weights.safetensors` and `curves.png`.
    On one CPU, with the same number of threads, a run that was stopped or killed and called again ends with the
    same bits as one that never was.

    Args:
        config: the settings; see `slicer_lite.config.preset`.
        clips: any source that `load_clips` takes. Clips that are marked `test` or `validation` are not used,
            and labels never are.
        run_dir: made if it is missing; a run in it with other settings or clips is refused.
        steps: instead of `config.steps`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: show a bar.
        on_step: called with each step's metrics, and its `clips_per_second` and `waiting` (the share of the
            time that went into waiting for clips); may stop the run by setting `stop`.
        stop: once set, the run finishes its step, saves, and returns.
        tensorboard: keep the metrics as TensorBoard's events too, in the run's folder `tensorboard/`.
        compile: join the networks' operations by `torch.compile` first, which takes a GPU half a minute and makes
            it faster (measured in the README). The last digits of the results change.
        strict, allow_outside: as in `load_clips`.

    Returns:
        The trained student as `slicer_lite.load(run_dir)` gives it.

    Raises:
        ValueError: settings or clips that cannot work, or a folder that holds another run, or one that has lost its
            checkpoints before its end.
        BlockingIOError: another process is training in this folder.
        FloatingPointError: the loss is not finite; the last good state is kept.
        MemoryError: the device's memory is full, though the estimate before the first step did not say so.
        ModuleNotFoundError: TensorBoard is wanted and not installed.
        KeyboardInterrupt: after Ctrl-C (or a notebook's stop button), once the state is saved.
    """
    if steps is not None:
        config = config.replace(steps=steps)
    if tensorboard:
        run_folder.need_tensorboard()
    if compile and choose_device(device).type != "cuda":
        raise ValueError("compile (--compile) is for CUDA GPUs: leave it out on this device.")
    with distributed.processes(choose_device(device)) as where, footprint.explained(config, where):
        with distributed.first_alone():
            shown = progress and distributed.rank() == 0
            chosen = load_clips(clips, strict, allow_outside, shown).for_pretraining()
        _check(config, chosen)
        footprint.check(config, where)
        run = Path(run_dir).expanduser()
        run_folder.make(run)
        asked = stop or threading.Event()
        with run_folder.locked(run), _interrupts() as interrupted:
            with distributed.first_alone():
                run_folder.claim(run, config, chosen, run_folder.made_with(config, where, compile))
                if (finished := _finished(run)) is not None:
                    return finished
                training = Training(config, chosen, run, where, compile)
            training.join()
            with keep_freed_blocks(where, trains_in_bf16(config, where)):
                training.run(lambda: asked.is_set() or interrupted.is_set(), on_step, progress, tensorboard)
            step = training.step
            if where.type == "cuda":
                # Model, graph and optimiser hold each other, and Python might not look for such rings before the
                # memory is full.
                del training
                gc.collect()
            if distributed.any_process(interrupted.is_set()) and step < config.steps:
                raise KeyboardInterrupt(f"stopped after step {step} of {config.steps}; saved in {run}")
        return load(run)


class Batch(NamedTuple):
    """What a step reads: which clips, their windows of sound, and what chance decides about their views."""

    clips: Tensor  # (B,) numbers
    window: Tensor  # (B, 15200) int16
    second_window: Tensor | None  # likewise, for view 2, with config.two_windows
    draws: Draws


class Training:
    """A run in progress: model, views, optimiser and the step that they are at."""

    def __init__(self, config: Config, clips: Clips, run: Path, device: torch.device, compile: bool = False):
        self.config, self.clips, self.run_dir, self.device = config, clips, run, device
        self.made_with = run_folder.made_with(config, device, compile)
        # Sound that takes little of a GPU's memory stays there: cutting windows then costs no time of the CPU's.
        if device.type == "cuda" and footprint.has_room_for_sound(config, device, clips.nbytes):
            self.clips = clips.on(device)
        self.heard = (
            Heard.of(clips) if distributed.rank() == 0 else None
        )  # the first process writes the weights
        with seeded(generator(config.seed, 0, "weights").initial_seed()):
            self.model = METHODS[config.method](config).to(device)
        found = load_checkpoint(run / "checkpoints")
        if found is None:
            self.step = 0
            self.views = fit_views(config, clips, device)
            for network in (self.model.student, self.model.teacher):
                network.encoder.mean.copy_(self.views.mean)
                network.encoder.deviation.copy_(self.views.deviation)
            self.optimizer = self._optimizer()
        else:
            self.step, state, about = found
            if distributed.rank() == 0 and self.step < config.steps:
                run_folder.warn_of_changes(run, about.get("made_with", {}), self.made_with)
            views = without_prefix("views", state)
            self.views = TwoViews(
                config, views["mean"].item(), views["deviation"].item(), views.get("mixer.centroids")
            ).to(device)
            load_into(self.views, views)
            load_into(self.model, without_prefix("model", state))
            self.optimizer = self._optimizer()
            load_optimizer_state(self.optimizer, without_prefix("optimizer", state))
        self.waited = 0.0  # seconds spent on waiting for clips
        self._batch: Batch | None = None  # drawn for the coming step
        if compile:
            # For these shapes alone: sizes that may change make slower kernels.
            self.model.student.compile(dynamic=False)
            self.model.teacher.compile(dynamic=False)
        self._work: Callable[[Batch], Any] = self._step
        if device.type == "cuda" and distributed.size() == 1:  # messages between processes cannot be recorded
            self._work = Replayed(self._step, device)
        self.snapshot_steps = {round(s) for s in np.geomspace(1, config.steps, SNAPSHOTS)}

    def join(self) -> None:
        """Make all processes begin alike, and batch norms see the whole batch where that is possible."""
        if distributed.size() > 1:
            distributed.same_everywhere(self.model)
            distributed.same_everywhere(self.views)
            if self.device.type == "cuda":  # on CPUs each process normalises by its own part
                for network in (self.model.student, self.model.teacher):
                    network.encoder = nn.SyncBatchNorm.convert_sync_batchnorm(network.encoder)

    def run(
        self,
        stopped: Callable[[], bool],
        on_step: Callable[[dict[str, float]], None] | None = None,
        progress: bool = True,
        tensorboard: bool = False,
    ) -> None:
        """Train until the last step, or until `stopped()`; then save and write the run's results."""
        self.model.train()
        begun, first = time.perf_counter(), self.step
        saved, cost = begun, 0.0
        looked, waited = begun, self.waited  # when its health was looked at last
        warned: set[str] = set()
        if distributed.rank() > 0:  # the first process keeps the books
            while self.step < self.config.steps and not distributed.any_process(stopped()):
                self.one_step()
            return
        if self.step == 0:
            self._snapshot()
        bar = tqdm(
            total=self.config.steps, initial=self.step, desc="training", unit="step", disable=not progress
        )
        with bar, run_folder.Log(self.run_dir, self.step, tensorboard) as log:
            while self.step < self.config.steps and not distributed.any_process(stopped()):
                metrics = self.one_step()
                now = time.perf_counter()
                pace = {
                    "clips_per_second": (self.step - first) * self.config.batch_size / (now - begun),
                    "waiting": (self.waited - waited) / (now - looked),
                }
                log.write(metrics, {"seconds": now - begun, **pace})
                if self.step in self.snapshot_steps:
                    self._snapshot()
                bar.update()
                rate = f"{pace['clips_per_second']:.0f}"
                bar.set_postfix(loss=f"{metrics['total']:.3f}", clips_per_s=rate, refresh=False)
                if "rank" in metrics:
                    looked, waited = now, self.waited
                    sentences = health.diagnose({**metrics, **pace}) if self.step >= SETTLED else []
                    wrong = {sentence.partition(":")[0]: sentence for sentence in sentences}
                    for illness in wrong.keys() - warned:
                        bar.write(f"step {self.step}: {wrong[illness]}")
                    warned = set(wrong)
                if on_step is not None:
                    on_step({**metrics, **pace})
                if now - saved > min(_SAVE_SECONDS, cost / _SAVE_SHARE):
                    log.flush()
                    self.save()
                    saved = time.perf_counter()
                    cost = saved - now
            if self.step > first or not any((self.run_dir / "checkpoints").glob("step-*")):
                log.flush()
                self.save()
        # Also when there was no step left to do: a crash may have come after the last checkpoint.
        self._save_weights(self.run_dir / WEIGHTS)
        try:
            if run_folder.read_metrics(self.run_dir):  # somebody may have deleted them
                picture = io.BytesIO()
                figures.curves(self.run_dir).savefig(picture, dpi=120)
                write_durably(self.run_dir / "curves.png", picture.getvalue())
        except Exception as error:  # whatever it is: all that was learnt is saved
            warnings.warn(
                f"{self.run_dir / 'curves.png'} could not be drawn ({error}). Nothing else is missing; "
                f"slicer_lite.explore.figures.curves({str(self.run_dir)!r}) draws it anew.",
                stacklevel=2,
            )

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
        before = copy.deepcopy((self.model.student, self.model.teacher)) if watched else None
        purpose = f"dropout of process {distributed.rank()}"
        with seeded(generator(config.seed, self.step, purpose).initial_seed(), self.device):
            losses, teacher, other_key = self._work(batch)
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
            pace = health.teacher_pace(*before, self.model.teacher)
            metrics |= {**self._health(teacher, other_key), "teacher_pace": pace}
        return metrics

    def _draw(self, step: int) -> Batch:
        """This process's part of a step's batch."""
        config = self.config
        order = clip_order(len(self.clips), config.batch_size, config.seed, step)
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

    def _step(self, batch: Batch) -> tuple[dict[str, Tensor], Any, Tensor]:
        """The arithmetic of a step: its losses, what the teacher said of a view, and a key of the other (`_health`).

        All of it is work for the device that does not depend on what the numbers are, so that it can be replayed.
        """
        inputs = self.views.inputs(batch.window.to(self.device))
        second = None
        if batch.second_window is not None:
            second = self.views.inputs(batch.second_window.to(self.device))
        view1, view2 = self.views.drawn(inputs, batch.draws, second)
        with autocast(self.config, self.device):
            losses, (student1, _, teacher1, teacher2) = self.model.step(
                view1, view2, batch.clips.to(self.device)
            )
        losses["total"].backward()
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        distributed.average([*gradients, *running_statistics(self.model.student)])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seen = (teacher1, teacher2.key) if self.config.symmetric else (teacher2, student1.key.detach())
        return {name: loss.detach() for name, loss in losses.items()}, *seen

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

    def _health(self, teacher: Any, other_key: Tensor) -> dict[str, float]:
        """Figures of what the teacher said of view 1; `alignment` compares its keys of both views.

        With one direction (`symmetric` is False) it hears view 2 alone: the figures are of that, and `alignment`
        compares its keys with the student's of view 1, as the loss does (dropout included).
        """
        embedding, key, other_key = map(distributed.gather, (teacher.embedding, teacher.key, other_key))
        clusters = {}
        # Of a head that nothing trains they would say nothing, and raise false alarms.
        if isinstance(self.model, SLICER) and self.config.cluster_weight:
            clusters = health.cluster_health(distributed.gather(teacher.assignment))
        return {
            **clusters,
            "rank": health.rank_me(embedding),
            "largest_rank": float(min(*embedding.shape, health.RANKED)),
            "alignment": health.alignment(key, other_key),
            "uniformity": health.uniformity(key),
            "drift": health.drift(self.model.student, self.model.teacher),
        }

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

    def _snapshot(self) -> None:
        folder = self.run_dir / "snapshots"
        folder.mkdir(exist_ok=True)
        self._save_weights(folder / f"step-{self.step:08d}.safetensors")

    def _save_weights(self, path: Path) -> None:
        mixer = self.views.mixer if self.config.mixing == "kmix" else None
        centroids = None if mixer is None else mixer.centroids
        save_weights(path, self.model.student, centroids, self.config, self.step, self.heard)


def learning_rate(config: Config, step: int) -> float:
    """The learning rate of a step: a linear warm-up, then constant or half a cosine down to zero."""
    rising = config.warmup * config.steps  # steps
    if step < rising:
        return config.learning_rate * (step + 1) / (rising + 1)
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (config.steps - rising)))


def _finished(run: Path) -> Pretrained | None:
    """The weights of a complete run whose checkpoints have been deleted, say to save room.

    Raises:
        ValueError: the run is not complete and its checkpoints are gone, so that it cannot go on.
    """
    noted = run / run_folder.METRICS
    # The first step may be noted without a checkpoint: by a run that was killed while it saved its first.
    begun = (run / WEIGHTS).exists() or (noted.exists() and noted.read_bytes().count(b"\n") > 1)
    if not begun or any((run / "checkpoints").glob("[!.]*")):
        return None
    if (found := load_finished(run)) is None:
        raise ValueError(
            f"{run} holds a run that is not complete, and its checkpoints are gone: it cannot go on. Use another "
            "folder for a new run."
        )
    return found


def _check(config: Config, clips: Clips) -> None:
    """Refuse what cannot work before anything is written."""
    if not len(clips):
        raise ValueError("No clip is left to train on: all are marked test or validation.")
    if len(clips) < 2:
        raise ValueError(
            "Only 1 clip is there: pre-training needs 2 at least, and hundreds to learn something."
        )
    if config.mixing == "kmix" and len(clips) < config.mix_centroids:
        raise ValueError(
            f"The {len(clips)} clips are too few for k-mix's {config.mix_centroids} centroids: lower mix_centroids "
            "(--mix-centroids), or take mixing = mixup (--mixing mixup)."
        )
    if config.batch_size > len(clips):
        raise ValueError(
            f"batch_size = {config.batch_size} is more than the {len(clips)} clips: lower batch_size "
            f"(--batch-size) to at most {len(clips)}."
        )
    if config.batch_size % distributed.size():
        raise ValueError(
            f"batch_size = {config.batch_size} cannot be shared by {distributed.size()} processes: use a multiple "
            f"of {distributed.size()}."
        )


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a request to stop after the step; a second one interrupts at once."""
    interrupted = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    # Only the main thread receives signals. And a script's background job is not meant by Ctrl-C: it ignores it.
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield interrupted
        return

    def handler(number: int, frame: Any) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handler)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
