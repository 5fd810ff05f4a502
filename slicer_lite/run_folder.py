"""A run's folder: whose it is, who may train in it, and what it has noted of every step."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import torch

import slicer_lite
from slicer_lite import distributed
from slicer_lite.config import Config
from slicer_lite.files import write_durably, write_json
from slicer_lite.store import Clips

METRICS = "metrics.jsonl"  # one line a step; nothing in it depends on the clock
_LOCK = ".lock"


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other processes from training in the folder; the first of several that train together does so for all.

    Raises:
        BlockingIOError: another process is training there.
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
    with lock:
        yield


def claim(run: Path, config: Config, clips: Clips) -> None:
    """Make the folder this run's by writing `config.json`, or see that it is.

    Raises:
        ValueError: the folder holds other things, or a run with other settings or clips.
    """
    path = run / "config.json"
    mine = {"config": config.to_dict(), "clips": {"number": len(clips), "fingerprint": clips.fingerprint()}}
    if not path.exists():
        strange = [p.name for p in run.iterdir() if p.name != _LOCK]
        if strange:
            raise ValueError(
                f"{run} holds other things ({', '.join(sorted(strange)[:3])}, …) and no config.json: use an empty "
                "or new folder for a run."
            )
        versions = {
            "slicer_lite": slicer_lite.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        write_json(path, {**mine, "versions": versions, "threads": torch.get_num_threads()})
        return
    try:
        theirs = json.loads(path.read_text())
        # A setting that the run's version did not know yet was then as its default is now.
        before = {
            **Config().to_dict(),
            **theirs["config"],
            **{f"clips.{k}": v for k, v in theirs["clips"].items()},
        }
    except (ValueError, KeyError, TypeError):  # ValueError: neither JSON nor text
        raise ValueError(f"{path} is damaged: use another folder for a new run.") from None
    now = {**mine["config"], **{f"clips.{k}": v for k, v in mine["clips"].items()}}
    different = [
        f"{name}: {before.get(name)!r} there, {now.get(name)!r} here"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if different:
        raise ValueError(
            f"{run} holds another run ({'; '.join(different)}). Use another folder, or its settings."
        )


def read_metrics(run_dir: str | Path) -> list[dict[str, float]]:
    """The metrics of a run, one dict a step.

    Raises:
        FileNotFoundError: the folder holds no metrics.
    """
    path = Path(run_dir) / METRICS
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: is {run_dir} a run folder?")
    return [json.loads(line) for line in path.read_text().splitlines()]


def cut_after(run: Path, step: int) -> None:
    """Drop the metrics of steps that will be done again."""
    path = run / METRICS
    if not path.exists():
        return
    kept = []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    for line in lines:
        try:
            if json.loads(line)["step"] > step:
                break
        except json.JSONDecodeError:  # the line that a crash cut short
            break
        kept.append(line)
    if len(kept) < len(lines):
        write_durably(path, "".join(kept).encode())
