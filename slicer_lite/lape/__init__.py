"""LAPE: its tasks, linear probes on frozen embeddings, the baselines beside them, and their results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slicer_lite.base.on_demand import on_demand

if TYPE_CHECKING:
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

_HOMES = {
    "TASKS": "lape.tasks",
    "Accuracy": "probe.linear",
    "Task": "lape.tasks",
    "cross_validate": "probe.linear",
    "evaluate": "probe.evaluate",
    "features": "probe.evaluate",
    "from_lape": "lape.checkpoints",
    "label_curve": "probe.label_curve",
    "learning_curve": "probe.label_curve",
    "linear_probe": "probe.linear",
    "load_audiontt": "lape.checkpoints",
    "load_lape": "lape.checkpoints",
    "majority": "probe.linear",
    "save_lape": "lape.checkpoints",
    "to_lape": "lape.checkpoints",
}
__getattr__ = on_demand(__name__, _HOMES)
