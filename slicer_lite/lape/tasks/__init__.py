"""LAPE's eleven tasks: where each data set comes from, how it is split, and how it is read from disk.

from slicer_lite.lape import TASKS

table = TASKS["us8k"].read("data sets")  # a folder that holds UrbanSound8K/
clips = sl.load_clips(table)
"""

from slicer_lite.lape.tasks import keywords, sounds, speech
from slicer_lite.lape.tasks.task import Row, Task

TASKS: dict[str, Task] = {task.id: task for task in (*keywords.TASKS, *speech.TASKS, *sounds.TASKS)}

__all__ = ["TASKS", "Row", "Task"]
