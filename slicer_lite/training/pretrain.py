"""`pretrain`: everything around the loop, from the clips to the run's folder; nothing that was learnt is lost."""

from __future__ import annotations

import gc
import io
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slicer_lite.audio.store import Clips, load_clips
from slicer_lite.base import distributed
from slicer_lite.base.device import choose_device, keep_freed_blocks, trains_in_bf16
from slicer_lite.base.files import write_durably
from slicer_lite.config import Config
from slicer_lite.method.registry import MakesEncoder, MakesMethod, name_of, new_method, panels_of
from slicer_lite.share.weights import WEIGHTS, Pretrained, load, load_finished
from slicer_lite.share.wrapped import fresh, kind_of, makes_encoder
from slicer_lite.training import curves, footprint, run_folder, watchers
from slicer_lite.training.loop import Training, train


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
    method: MakesMethod | None = None,
    encoder: MakesEncoder | None = None,
    checkpoint_seconds: float = 30.0,
) -> Pretrained:
    """Pre-train SLICER (or another method), or go on with a run that was stopped.

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
        on_step: called with each step's metrics, and its `seconds`, `clips_per_second` and `waiting` (the share of
            the time that went into waiting for clips); may stop the run by setting `stop`.
        stop: once set, the run finishes its step, saves, and returns.
        tensorboard: keep the metrics as TensorBoard's events too, in the run's folder `tensorboard/`.
        compile: join the networks' operations by `torch.compile` first, which takes a GPU half a minute and makes
            it faster (measured in the README). The last digits of the results change.
        strict, allow_outside: as in `load_clips`.
        method: one of your own instead of `config.method`: a subclass of `slicer_lite.method.method.Method`, or
            a function of (config, encoder) that makes one. To go on with the run, and to load it, give it again.
        encoder: one of your own instead of AudioNTT: a class or function without arguments that makes a module with a
            `dim`, from standardised log-mels `(B, 1, 64, T)` to frames `(B, T', dim)`. Likewise.
        checkpoint_seconds: a checkpoint is written at least this often; more often as long as that takes under 2 % of
            the time.

    Returns:
        The trained student as `slicer_lite.load(run_dir)` gives it.

    Raises:
        ValueError: settings or clips that cannot work, or a folder that holds another run, or one that has lost its
            checkpoints before its end.
        BlockingIOError: another process is training in this folder.
        OSError: the folder cannot be written to, or its disk has no locks.
        ConnectionError: another process of the run has ended.
        FloatingPointError: the loss is not finite; the last good state is kept.
        MemoryError: the device's memory is full, though the estimate before the first step did not say so.
        ModuleNotFoundError: TensorBoard is wanted and not installed.
        KeyboardInterrupt: after Ctrl-C (or a notebook's stop button), once the state is saved.
    """
    if steps is not None:
        config = config.replace(steps=steps)
    if method is not None:
        config = config.replace(method=name_of(method))
    makes = makes_encoder(encoder)
    kind = "AudioNTT" if makes is None else kind_of(fresh(makes()))  # two: it has to make new ones
    if tensorboard:
        run_folder.need_tensorboard()
    if compile and choose_device(device).type != "cuda":
        raise ValueError("compile (--compile) is for CUDA GPUs: leave it out on this device.")
    makes_model = partial(new_method, config, method, makes)
    with distributed.processes(choose_device(device)) as where, footprint.explained(config, where):
        with distributed.first_alone():
            shown = progress and distributed.rank() == 0
            chosen = load_clips(clips, strict, allow_outside, shown).for_pretraining()
        _check(config, chosen)
        spare = footprint.check(config, where, makes_model)
        run = Path(run_dir).expanduser()
        run_folder.make(run)
        asked = stop or threading.Event()
        with run_folder.locked(run), _interrupts() as interrupted:
            with distributed.first_alone():
                means = run_folder.made_with(config, where, compile)
                run_folder.claim(run, config, chosen, means, panels_of(method or config.method), kind)
                if (finished := _finished(run, method, encoder)) is not None:
                    return finished
                training = Training(config, chosen, run, where, compile, makes_model, spare)
            training.join()
            watching = watchers.usual(training, on_step, progress, tensorboard, checkpoint_seconds)
            with keep_freed_blocks(where, trains_in_bf16(config, where)):
                train(training, watching, lambda: asked.is_set() or interrupted.is_set())
            if distributed.rank() == 0:
                # Also when there was no step left to do: a crash may have come after the last checkpoint.
                training.save_weights(run / WEIGHTS)
                _draw(run)
            step = training.step
            if where.type == "cuda":
                # Model, graph and optimiser hold each other, and Python might not look for such rings before the
                # memory is full.
                del training, watching
                gc.collect()
            if distributed.any_process(interrupted.is_set()) and step < config.steps:
                raise KeyboardInterrupt(f"stopped after step {step} of {config.steps}; saved in {run}")
        return load(run, method, encoder)


def _draw(run: Path) -> None:
    """Draw the run's curves. Whatever may go wrong in it: all that was learnt is saved."""
    try:
        if run_folder.read_metrics(run):  # somebody may have deleted them
            picture = io.BytesIO()
            curves.curves(run).savefig(picture, dpi=120)
            write_durably(run / "curves.png", picture.getvalue())
    except Exception as error:
        warnings.warn(
            f"{run / 'curves.png'} could not be drawn ({error}). Nothing else is missing; "
            f"slicer_lite.training.curves.curves({str(run)!r}) draws it anew.",
            stacklevel=3,
        )


def _finished(run: Path, method: MakesMethod | None, encoder: MakesEncoder | None) -> Pretrained | None:
    """The weights of a complete run whose checkpoints have been deleted, say to save room.

    Raises:
        ValueError: the run is not complete and its checkpoints are gone, so that it cannot go on.
    """
    noted = run / run_folder.METRICS
    # The first step may be noted without a checkpoint: by a run that was killed while it saved its first.
    begun = (run / WEIGHTS).exists() or (noted.exists() and noted.read_bytes().count(b"\n") > 1)
    if not begun or any((run / "checkpoints").glob("[!.]*")):
        return None
    if (found := load_finished(run, method, encoder)) is None:
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
