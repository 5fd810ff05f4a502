"""Linear probes on frozen embeddings: LAPE's protocol, its baselines, and their results."""

from slicer_lite.lape.probe import Accuracy, cross_validate, linear_probe, majority
from slicer_lite.lape.report import evaluate, features

__all__ = ["Accuracy", "cross_validate", "evaluate", "features", "linear_probe", "majority"]
