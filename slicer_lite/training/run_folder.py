"""A run's folder: whose it is, who may train in it, and what it has noted of every step."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import torch

import slicer_lite
from slicer_lite.audio.store import Clips
from slicer_lite.base import distributed
from slicer_lite.base.device import trains_in_bf16
from slicer_lite.base.files import UNFINISHED, hidden, naming, parse_json, write_durably, write_json
from slicer_lite.config import Config
from slicer_lite.method.registry import Panel, panels_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"  # one line a step; nothing in it depends on the clock
TIMINGS = "timings.jsonl"
_LOCK = ".lock"
# How all begins that a run replaces as a whole, so what a kill may leave half-written; see `files.write_durably`.
_REPLACED = (
    "config.json",
    METRICS,
    TIMINGS,
    "weights.safetensors",
    "curves.png",
    "checkpoints/step-",
    "snapshots/step-",
)
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}


def make(run: Path) -> None:
    """Make a run's folder, if it is not there.

    Raises:
        OSError: it cannot be made; says why.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file has that name" if isinstance(error, FileExistsError) else error.strerror
        raise OSError(
            f"The folder {run} cannot be made ({reason}): choose another one for the run."
        ) from None


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other processes from training in the folder; the first of several that train together does so for all.

    Raises:
        BlockingIOError: another process is training there.
        OSError: nothing can be written there, or the disk has no locks; says which.
    """
    if distributed.rank() > 0:
        yield
        return
    lock = filelock.FileLock(run / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise BlockingIOError(
            f"Another process trains in {run}: wait for it, or use another folder."
        ) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise OSError(
                f"The disk of {run} refuses locks ({error.strerror}), which keep two processes from training in one "
                "folder: choose a folder on a local disk for the run and copy it afterwards, or mount that disk with "
                "locks."
            ) from None
        raise type(error)(
            f"{run} cannot be written to ({error.strerror}): choose another folder for the run."
        ) from None
    with lock:
        yield


def claim(
    run: Path,
    config: Config,
    clips: Clips,
    means: Mapping[str, str | int],
    panels: Sequence[Panel] = (),
    encoder: str = "AudioNTT",
) -> None:
    """Make the folder this run's by writing `config.json`, or see that it is.

    A folder in which nothing has been trained yet takes other settings and clips: those before did not work. Hidden
    files, such as a Mac's `.DS_Store`, are nobody's. What a killed process has left half-written of this run is
    removed, once it is clear that the run is this one.

    Args:
        means: of `made_with`, to be noted.
        panels: what is to be drawn of the run, to be noted.
        encoder: what kind of network it is.

    Raises:
        ValueError: the folder holds other things, or a run with other settings or clips; or another machine's
            first process does not see this folder.
    """
    path = run / "config.json"
    mine = {
        "config": config.to_dict(),
        "encoder": encoder,
        "clips": {"number": len(clips), "fingerprint": clips.fingerprint()},
    }
    there = {p.name for p in run.iterdir() if not hidden(p.name)}
    if path.name in there:
        different = _different(path, mine)
        if not different:
            _sweep(run)
            return
        if there != {path.name}:
            raise ValueError(
                f"{run} holds another run ({'; '.join(different)}). Use another folder, or its settings."
            )
    elif there:
        raise ValueError(
            f"{run} holds other things ({', '.join(sorted(there)[:3])}, …) and no config.json: use an empty "
            "or new folder for a run."
        )
    elif distributed.rank() > 0:  # the first process has been here
        raise ValueError(
            f"{run}: the first process's run is not there. On several machines the run's folder must lie on a disk "
            "that all machines share."
        )
    _sweep(run)
    write_json(path, {**mine, "begun_with": means, "panels": [panel._asdict() for panel in panels]})


def read_panels(run_dir: str | Path) -> tuple[Panel, ...]:
    """What is to be drawn of a run, as its method said when it began.

    Raises:
        ValueError: config.json is damaged.
    """
    path = Path(run_dir).expanduser() / "config.json"
    try:
        noted = parse_json(path.read_text()) if path.exists() else {}
        if "panels" in noted:
            return tuple(Panel(**panel) for panel in noted["panels"])
        return panels_of(str(noted.get("config", {}).get("method")))  # a run of version 0.1
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged: nothing says what to draw of this run.") from None


def _sweep(run: Path) -> None:
    """Remove what killed processes have left half-written of this run, and nothing else in its folder."""
    if distributed.rank() > 0:  # the first process may be writing
        return
    for name in map(Path, _REPLACED):
        for left in (run / name.parent).glob(f".{name.name}*{UNFINISHED}"):
            left.unlink(missing_ok=True)


def made_with(config: Config, device: torch.device, compile: bool = False) -> dict[str, str | int]:
    """What the last digits of a run's numbers hang on, beside its settings and clips."""
    name = {
        "cpu": lambda: f"CPU with {torch.backends.cpu.get_cpu_capability()}",
        "cuda": lambda: torch.cuda.get_device_name(device),
        "mps": lambda: "Apple's MPS",
    }
    return {
        "slicer-lite": slicer_lite.__version__,
        "PyTorch": torch.__version__,
        "device": name[device.type](),
        "precision": "bf16" if trains_in_bf16(config, device) else "fp32",
        "compiled": compile,
        "threads": torch.get_num_threads(),
        "processes": distributed.size(),
    }


def warn_of_changes(run: Path, before: Mapping[str, str | int], now: Mapping[str, str | int]) -> None:
    """Warn if a run goes on otherwise than it was trained until then, since it is repeatable to the bit if not."""
    changed = [
        f"{name}: {before[name]!r} then, {now[name]!r} now"
        for name in before.keys() & now.keys()
        if before[name] != now[name]
    ]
    if changed:
        warnings.warn(
            f"{run} goes on otherwise than it was trained until now ({'; '.join(sorted(changed))}). It can, but the "
            "last digits of its numbers will not be those of a run that never stopped.",
            stacklevel=2,
        )


def _different(path: Path, mine: Mapping[str, Any]) -> list[str]:
    """What a run's `config.json` has otherwise, as `name: value there, value here`.

    Raises:
        ValueError: it is damaged.
    """
    try:
        theirs = parse_json(path.read_text())
        # A setting that the run's version did not know yet was then as its default is now.
        before = {
            **Config().to_dict(),
            **theirs["config"],
            "encoder": theirs.get("encoder", "AudioNTT"),
            **{f"clips.{k}": v for k, v in theirs["clips"].items()},
        }
    except (ValueError, KeyError, TypeError, AttributeError):  # ValueError: neither JSON nor text
        raise ValueError(f"{path} is damaged: use another folder for a new run.") from None
    now = {
        **mine["config"],
        "encoder": mine["encoder"],
        **{f"clips.{k}": v for k, v in mine["clips"].items()},
    }
    return [
        f"{name}: {before.get(name)!r} there, {now.get(name)!r} here"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def read_metrics(run_dir: str | Path) -> list[dict[str, float]]:
    """The metrics of a run, one dict a step.

    Raises:
        FileNotFoundError: the folder holds no metrics.
    """
    path = Path(run_dir).expanduser() / METRICS
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: is {run_dir} a run folder?")
    return read_lines(path)


def read_lines(path: Path) -> list[dict[str, float]]:
    """What a run noted in a file, one dict a line, without the line that a crash cut short."""
    return [noted for _, noted in _whole(path)]


class Log:
    """What a run notes of every step; one process writes it.

    `metrics.jsonl`, `timings.jsonl` (all that depends on the clock) and, if wanted, the metrics as TensorBoard's
    events. Opening it drops the lines of steps after `step`, which will be done again.
    """

    def __init__(self, run: Path, step: int, tensorboard: bool = False):
        self._files = []
        for name in (METRICS, TIMINGS):
            _cut_after(run / name, step)
            self._files.append((run / name).open("a"))
        self._events = _new_events(run) if tensorboard else None

    def write(self, metrics: dict[str, float], timings: dict[str, float]) -> None:
        """Note a step: `metrics`, with its number `step`, and what depends on the clock."""
        for file, line in zip(self._files, (metrics, {"step": metrics["step"], **timings}), strict=True):
            with naming(file.name):
                file.write(json.dumps(line) + "\n")
        if self._events is not None:
            _add_events(self._events, metrics)

    def flush(self) -> None:
        """Put all of it on the disk: whatever happens then, a checkpoint is never ahead of the log."""
        for file in self._files:
            with naming(file.name):
                file.flush()
                os.fsync(file.fileno())
        if self._events is not None:
            self._events.flush()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            with naming(file.name):
                file.close()
        if self._events is not None:
            self._events.close()


def need_tensorboard() -> None:
    """See that TensorBoard is there.

    Raises:
        ModuleNotFoundError: says how to install it.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError(
            "TensorBoard is not installed: pip install 'slicer-lite[tensorboard]', or leave out tensorboard "
            "(--tensorboard). metrics.jsonl holds the same numbers."
        )


def _new_events(run: Path) -> SummaryWriter:
    """A writer of TensorBoard's events that has told it all that `metrics.jsonl` holds.

    The events are made anew each time that a run goes on. So they never miss a step or show one twice, whenever the
    run was killed and whether or not they were wanted before.
    """
    from torch.utils.tensorboard import SummaryWriter  # here, because it takes seconds and few want it

    folder = run / "tensorboard"
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    events = SummaryWriter(folder, purge_step=0)  # a TensorBoard that is open forgets what it has read before
    for metrics in read_metrics(run):
        _add_events(events, metrics)
    return events


def _add_events(events: SummaryWriter, metrics: dict[str, float]) -> None:
    for name, value in metrics.items():
        if name != "step":
            events.add_scalar(name, value, int(metrics["step"]))


def _whole(path: Path) -> list[tuple[str, dict[str, float]]]:
    """A file's lines, and what each says, without the last if a crash cut it short; others are warned of."""
    whole = []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            whole.append((line, parse_json(line)))
        except ValueError:
            if number < len(lines):
                warnings.warn(f"{path}, line {number} is damaged, and left out.", stacklevel=3)
    return whole


def _cut_after(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and the line that a crash cut short."""
    if not path.exists():
        return
    kept = "".join(line for line, noted in _whole(path) if noted["step"] <= step).encode()
    if kept != path.read_bytes():
        write_durably(path, kept)
