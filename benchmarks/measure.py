"""What the benchmarks share: command line, results files, timing in turns, a description of the machine."""

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import slicer_lite as sl
from slicer_lite.base.device import computes_in_bf16
from slicer_lite.base.files import write_json
from slicer_lite.probe.compare import differences

RESULTS = Path(__file__).parent / "results"
REQUIRED = object()
_OPTIONS: dict[str, dict[str, Any]] = {
    "data": {"help": "a set of recordings: whatever `pretrain --data` takes"},
    "steps": {"type": int},
    "seeds": {"type": int, "help": "how many"},
    "device": {},
    "compile": {"action": "store_true"},
    "parts": {"help": "separated by commas"},
    "runs": {"type": Path, "help": "folder in which the runs are kept"},
    "out": {"type": Path, "help": "the results file"},
}


def parser(about: str | None, **defaults: object) -> argparse.ArgumentParser:
    """A script's command line: its docstring, and those of the shared options that it names, with their defaults.

    A default of `REQUIRED` means that the option must be given.
    """
    found = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in defaults.items():
        need = {"required": True} if default is REQUIRED else {"default": default}
        found.add_argument(f"--{name}", **_OPTIONS[name], **need)
    return found


def read(path: Path, empty: Any = None) -> Any:
    """What a results file has; `empty`, if that is given, where there is none yet."""
    return empty if empty is not None and not path.exists() else json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, results: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, results)


def write_report(path: Path, what: str, **results: Any) -> None:
    """A results file of one measurement: what it is, how it was made, and on which machine."""
    write(path, {"what": what, "command": command(), **results, "machine": machine()})
    print(f"all in {path}")


def measure_parts(parts: Mapping[str, Callable[[], Mapping[str, object]]], names: str, path: Path) -> None:
    """Measure some parts, and write each into the results file as it comes; the others keep what they have."""
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in parts]:
        raise SystemExit(f"--parts {names}: there is no {', '.join(unknown)}, but {', '.join(parts)}.")
    results = read(path, {})
    for name in wanted:
        results[name] = {**parts[name](), "machine": machine()}
        print(name, json.dumps(results[name], indent=1))
        write(path, results)


def described(clips: sl.Clips) -> dict[str, object]:
    """Which clips a run was trained on and probed with."""
    return {
        "trained_on": len(clips.for_pretraining()),
        "all": len(clips),
        "fingerprint": clips.fingerprint(),
    }


def of_seed(seed: int, evaluated: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored of `lape.evaluate`'s results of one seed."""
    return {"seed": seed, "average": evaluated["average"], "tasks": evaluated["tasks"]}


def gain(rows: Sequence[Mapping[str, Any]], name: str, base: str) -> dict[str, float]:
    """How far the accuracies of one name lie above those of another, by `probe.compare.differences`."""
    pair = [row for row in rows if row["name"] in (name, base)]
    return differences(pair, base).loc[name, ["difference", "low", "high"]].to_dict()


def in_points(found: Mapping[str, float]) -> str:
    """`4.2 points (3.2 to 5.2)`"""
    difference, low, high = (100 * found[key] for key in ("difference", "low", "high"))
    return f"{difference:.1f} points ({low:.1f} to {high:.1f})"


def processes(count: int) -> ProcessPoolExecutor:
    """Processes of one thread each."""
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,))


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
