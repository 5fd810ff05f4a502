"""Who speaks, in which language, in which mood: LibriSpeech, VoxCeleb1, VoxForge, IEMOCAP."""

from slicer_lite.lape.tasks.task import Task

TASKS: tuple[Task, ...] = ()
