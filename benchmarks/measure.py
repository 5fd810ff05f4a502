"""What the benchmarks share: timing in turns, and a description of the machine."""

import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from slicer_lite.base.device import computes_in_bf16


def seconds(*works: Callable[[], object], repeats: int = 7, warmups: int = 2) -> list[list[float]]:
    """Seconds of each repeat of each piece of work.

    The works take turns (A B A B …), so that a change in the machine's load meets all of them alike and ratios
    of the same turn can be trusted where single times cannot.
    """
    times: list[list[float]] = [[] for _ in works]
    for turn in range(warmups + repeats):
        for work, its in zip(works, times, strict=True):
            begun = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warmups:
                its.append(time.perf_counter() - begun)
    return times


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(above: list[float], below: list[float]) -> dict[str, float]:
    """The spread of the ratio of two works, turn by turn."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def command() -> str:
    """What was typed, for a results file: without the folders of this machine."""
    words = [f"benchmarks/{Path(sys.argv[0]).name}"]
    given = iter(sys.argv[1:])
    for word in given:
        option, _, _ = word.partition("=")
        if option in ("--data", "--runs", "--run", "--out"):
            if option == word:
                next(given)
            words += ["--data", "FOLDER"] if option == "--data" else []
        else:
            words.append(word)
    return f"python {shlex.join(words)}"


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "processors": len(names) or None,
        "threads": torch.get_num_threads(),
        "bf16": computes_in_bf16(torch.device("cpu")),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
