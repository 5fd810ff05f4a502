"""LAPE's eleven tasks: where each data set comes from, how it is split, and how it is read from disk.

from slicer_lite.lape import TASKS

table = TASKS["us8k"].read("data sets")  # a folder that holds UrbanSound8K/
clips = sl.load_clips(table)
"""

from collections.abc import Sequence

from slicer_lite.lape.tasks import keywords, sounds, speech
from slicer_lite.lape.tasks.task import Row, Task

TASKS: dict[str, Task] = {task.id: task for task in (*keywords.TASKS, *speech.TASKS, *sounds.TASKS)}


def find_tasks(names: Sequence[str]) -> list[Task]:
    """The tasks of these names; `all` means all of them.

    Raises:
        ValueError: a name that is no task's, or no name.
    """
    unknown = [name for name in names if name not in (*TASKS, "all")]
    if unknown or not names:
        problem = f"There is no task {unknown[0]!r}" if unknown else "No task is named"
        raise ValueError(f"{problem}: the tasks are {', '.join(TASKS)}, or all.")
    return list(TASKS.values()) if "all" in names else [TASKS[name] for name in names]


__all__ = ["TASKS", "Row", "Task", "find_tasks"]
