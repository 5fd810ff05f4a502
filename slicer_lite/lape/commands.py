"""`slicer-lite lape …`: what tasks there are, whether their data are complete; probes of them, and a report."""

from __future__ import annotations

import hashlib
import shlex
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from slicer_lite.lape.choices import Baseline, Protocol

if TYPE_CHECKING:
    from slicer_lite.audio.store import Clips
    from slicer_lite.lape.tasks import Task

# What carries a command out is imported when it runs: help and mistakes in what was typed need none of it.
_LONGEST_NAME = 120  # bytes of a result's file name: every disk takes that, also while it is written


@dataclass(frozen=True)
class ListTasks:
    """List the tasks: classes, clips as published, data set and licence."""

    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        from slicer_lite.lape.tasks import TASKS

        for task in TASKS.values():
            clips = ", ".join(f"{name} {count:,}" for name, count in task.published.items())
            folds = f", {task.folds} folds" if task.folds > 1 else ""
            print(f"{task.id}: {task.title}, {task.class_count:,} classes; {task.dataset}")
            print(f"    clips as published: {clips or 'not known'}{folds}")
            print(f"    licence: {task.licence}")
            print(f"    {'automatic download' if task.archives else 'your own copy'}; {task.source}")


@dataclass(frozen=True)
class CheckTasks:
    """Say what is missing from the data of a task, or wrong with them. Exit code 1 if anything is."""

    tasks: tyro.conf.Positional[tuple[str, ...]]
    """Names of tasks, or `all`."""
    root: Path
    """The folder that holds the data sets."""
    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        from slicer_lite.lape.tasks import find_tasks

        complete = [_complete(task, self.root) for task in find_tasks(self.tasks)]
        if not all(complete):
            sys.exit(1)


@dataclass(frozen=True)
class DownloadTasks:
    """Download the data of a task and unpack them, where that is allowed without asking."""

    tasks: tyro.conf.Positional[tuple[str, ...]]
    """Names of tasks, or `all` (those that can be downloaded)."""
    root: Path
    """The folder that will hold the data sets."""
    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        from slicer_lite.lape.tasks import find_tasks

        complete = []
        for task in find_tasks(self.tasks):
            if "all" in self.tasks and not task.archives:
                print(f"{task.id}: {task.obtain}")
                continue
            if task.check(self.root):
                task.download(self.root)
            complete.append(_complete(task, self.root))
        if not all(complete):
            sys.exit(1)


@dataclass(frozen=True)
class RunTasks:
    """Probe tasks with a trained encoder and with the baselines; a file of results for each task."""

    weights: Path
    """A run folder, a .safetensors file, the name of shipped weights, or a .pth, .pt or .ckpt of LAPE or BYOL-A."""
    out: Path
    """The folder for the results. Tasks whose results are there already are not probed again."""
    tasks: tuple[str, ...] = ("all",)
    """Names of tasks, or `all`: those whose data are complete, and have a train and a test split."""
    root: Path | None = None
    """The folder that holds LAPE's data sets; or else --data."""
    data: str | None = None
    """A folder with manifest.csv, a CSV file, or `sounds`: labelled clips of your own."""
    protocol: Protocol = "lape"
    """lape: a linear layer on windows; quick: logistic regression on the mean over each clip's windows."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each is a repetition of what is random: baselines, and what is held out for choosing."""
    baselines: tuple[Baseline, ...] = ("untrained", "mel", "majority")
    """`supervised`, the same encoder trained with the labels, takes much longer than the others."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    strict: bool = False
    """With --data: stop at the first file that cannot be read, instead of skipping it."""
    allow_outside: bool = False
    """With --data: let paths in a CSV, and links, lead out of the data's folder."""
    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        from slicer_lite.base.files import need_writable, write_json
        from slicer_lite.explore.embed import set_statistics
        from slicer_lite.lape.checkpoints import load_audiontt
        from slicer_lite.lape.run import (
            check_seeds,
            heard_in_words,
            heard_of_task,
            is_result_of,
            of_task,
            run_task,
        )
        from slicer_lite.probe.evaluate import rows_of
        from slicer_lite.share.weights import LAPE_SUFFIXES, load

        if (self.root is None) == (self.data is None):
            raise ValueError("Give one of --root (LAPE's data sets) and --data (labelled clips of your own).")
        if not self.tasks:
            raise ValueError("--tasks names none: name some, or leave it out for all.")
        if self.root is not None and not self.root.expanduser().is_dir():
            raise FileNotFoundError(
                f"--root {self.root} is no folder: give the one that holds the data sets."
            )
        check_seeds(self.seeds)
        seeds, baselines = tuple(dict.fromkeys(self.seeds)), tuple(dict.fromkeys(self.baselines))
        external = self.weights.suffix in LAPE_SUFFIXES
        pretrained = None if external else load(self.weights)
        encoder = load_audiontt(self.weights) if pretrained is None else pretrained.encoder
        about: dict[str, Any] = {"name": self.weights.name}
        if pretrained is not None:
            about |= {"step": pretrained.step, "config": pretrained.config.to_dict()}
        # Such a file may hold no statistics.
        strange = external and (encoder.mean.item(), encoder.deviation.item()) == (0, 1)
        out = self.out.expanduser()
        if out.exists() and not out.is_dir():
            raise ValueError(f"{out} is a file: name a folder for the results.")
        out.mkdir(parents=True, exist_ok=True)
        need_writable(out)
        done = 0
        for task, clips in self._data():
            try:
                labelled = of_task(clips, task)
                if strange:
                    # No label is used. In a task of folds every clip is a test clip once: then all are measured.
                    rows = rows_of(labelled, task)
                    train = rows[rows["split"] == "train"]
                    set_statistics(
                        encoder, labelled.subset((train if len(train) else rows)["clip"].to_numpy(int))
                    )
            except ValueError as error:
                self._leave_out(task, error)
                continue
            heard = None if pretrained is None else pretrained.heard
            about["heard"] = counts = None if heard is None else heard_of_task(heard, labelled, task)
            if heard is not None and counts and (sentence := heard_in_words(heard, counts)):
                if any(of["heard"] for split, of in counts.items() if split != "train"):
                    warnings.warn(
                        f"{task}: {sentence} Its accuracy is not that on sounds new to the encoder: say so beside "
                        "it, or pre-train without them.",
                        stacklevel=2,
                    )
                else:
                    print(f"{task}: {sentence}")
            path = out / f"{_as_file_name(task)}.json"
            wanted = (encoder, labelled, task, self.protocol, seeds, baselines)
            if path.exists():
                if not is_result_of(path, *wanted):
                    raise ValueError(
                        f"{path} is there already, of other weights, data or settings: choose another folder."
                    )
                print(f"{task}: done already.")
                done += 1
                continue
            try:
                result = run_task(*wanted, self.device, progress=True)
            except ValueError as error:
                self._leave_out(task, error)
                continue
            done += 1
            result["about"]["weights"] |= about
            write_json(path, result)
            cells = [f"{name} {100 * r['accuracy']:.1f} %" for name, r in result["results"].items()]
            print(f"{task}: {', '.join(cells)}")
        if not done:
            raise ValueError(
                "No task was probed: a task needs labelled clips in a train and in a test split (in data of your "
                "own, columns `label` and `split` of a file manifest.csv, or of a CSV file given as --data)."
            )
        quoted = shlex.quote(str(self.out))
        print(f"Results are in {self.out}. Next: slicer-lite lape report --results {quoted} --out …")

    def _data(self) -> Iterator[tuple[str, Clips]]:
        """The name and the clips of each task."""
        from slicer_lite.audio.store import load_clips
        from slicer_lite.lape.tasks import find_tasks

        if self.data is not None:
            clips = load_clips(self.data, strict=self.strict, allow_outside=self.allow_outside)
            for task in clips.tasks if "all" in self.tasks else self.tasks:
                yield task, clips
            return
        assert self.root is not None
        for lapes in find_tasks(self.tasks):
            try:
                clips = load_clips(lapes.read(self.root))
            except (FileNotFoundError, ValueError) as error:
                self._leave_out(lapes.id, error)
                continue
            yield lapes.id, clips

    def _leave_out(self, task: str, reason: Exception) -> None:
        """Of all tasks, do those that can be done; one that was named has to be done."""
        if "all" not in self.tasks:
            raise reason
        print(f"{task}: left out. {reason}", file=sys.stderr)


@dataclass(frozen=True)
class Report:
    """Turn results of `lape run` into a Markdown and a LaTeX table, a figure and one JSON file."""

    results: tuple[Path, ...]
    """Folders of `lape run`; of several encoders, one beside the other."""
    out: Path
    """The folder for table.md, table.tex, figure.png and results.json."""
    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        from slicer_lite.lape.report import write_report

        table, *others = write_report(self.results, self.out)
        print(table.read_text(encoding="utf-8"))
        print(f"Written: {', '.join(map(str, (table, *others)))}")


@dataclass(frozen=True)
class Lape:
    """LAPE's eleven tasks."""

    command: (
        Annotated[ListTasks, tyro.conf.subcommand("list")]
        | Annotated[CheckTasks, tyro.conf.subcommand("check")]
        | Annotated[DownloadTasks, tyro.conf.subcommand("download")]
        | Annotated[RunTasks, tyro.conf.subcommand("run")]
        | Annotated[Report, tyro.conf.subcommand("report")]
    )

    def run(self) -> None:
        self.command.run()


def _as_file_name(task: str) -> str:
    """A task's name with what no file name may hold, on any system, written as in a web address; long ones cut."""
    name = "".join(f"%{ord(letter):02X}" if letter in '/\\:*?"<>|%' else letter for letter in task)
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    kept = name.encode()[: _LONGEST_NAME - 17].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(task.encode()).hexdigest()[:16]}"


def _complete(task: Task, root: Path) -> bool:
    """Whether a task's data are complete; prints what is wrong with them, or that nothing is."""
    problems = task.check(root)
    if not problems:
        print(f"{task.id}: complete.")
        return True
    print(f"{task.id}:")
    for problem in problems:
        print(f"  - {problem}")
    print(f"  Expected below {root}:")
    print("".join(f"    {line}\n" for line in task.layout.splitlines()), end="")
    how = (
        f"slicer-lite lape download {task.id} --root {shlex.quote(str(root))}"
        if task.archives
        else task.obtain
    )
    print(f"  To get it: {how}")
    return False
