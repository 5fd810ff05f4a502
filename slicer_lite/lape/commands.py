"""`slicer-lite lape …`: what tasks there are, and whether their data are complete."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from slicer_lite.lape.tasks import TASKS, Task, find_tasks


@dataclass(frozen=True)
class ListTasks:
    """List the tasks: classes, clips as published, data set and licence."""

    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
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
        for task in find_tasks(self.tasks):
            if task.archives or "all" not in self.tasks:
                task.download(self.root)
                _complete(task, self.root)


@dataclass(frozen=True)
class Lape:
    """LAPE's eleven tasks."""

    command: (
        Annotated[ListTasks, tyro.conf.subcommand("list")]
        | Annotated[CheckTasks, tyro.conf.subcommand("check")]
        | Annotated[DownloadTasks, tyro.conf.subcommand("download")]
    )

    def run(self) -> None:
        self.command.run()


def _complete(task: Task, root: Path) -> bool:
    """Whether a task's data are complete; prints what is wrong, or how many clips there are."""
    problems = task.check(root)
    if not problems:
        print(f"{task.id}: complete.")
        return True
    print(f"{task.id}:")
    for problem in problems:
        print(f"  - {problem}")
    print(f"  Expected below {root}:")
    print("".join(f"    {line}\n" for line in task.layout.splitlines()), end="")
    how = f"slicer-lite lape download {task.id} --root {root}" if task.archives else task.obtain
    print(f"  To get it: {how}")
    return False
