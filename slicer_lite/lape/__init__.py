"""LAPE: its tasks, linear probes on frozen embeddings, the baselines beside them, and their results."""

from slicer_lite.lape.checkpoints import from_lape, load_audiontt, load_lape, save_lape, to_lape
from slicer_lite.lape.tasks import TASKS, Task
from slicer_lite.probe.evaluate import evaluate, features
from slicer_lite.probe.label_curve import label_curve, learning_curve
from slicer_lite.probe.linear import Accuracy, cross_validate, linear_probe, majority

__all__ = [
    "TASKS",
    "Accuracy",
    "Task",
    "cross_validate",
    "evaluate",
    "features",
    "from_lape",
    "label_curve",
    "learning_curve",
    "linear_probe",
    "load_audiontt",
    "load_lape",
    "majority",
    "save_lape",
    "to_lape",
]
