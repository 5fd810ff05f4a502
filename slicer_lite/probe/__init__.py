"""How much can be read off frozen embeddings: probes, folds, intervals, baselines, comparisons.

`evaluate.evaluate` probes every task of a data set; `label_curve.label_curve`, `supervised.supervised` and
`compare.differences` are in modules of their own, too.
"""

from slicer_lite.probe.label_curve import learning_curve
from slicer_lite.probe.linear import (
    Accuracy,
    cross_validate,
    linear_probe,
    majority,
    quick_probe,
    split_folds,
    window_probe,
)

__all__ = [
    "Accuracy",
    "cross_validate",
    "learning_curve",
    "linear_probe",
    "majority",
    "quick_probe",
    "split_folds",
    "window_probe",
]
