"""Every knob, once: what it is, its unit, its default and where the default comes from.

Source marks: [P] the SLICER paper (arXiv 2211.01519); [R] the authors' released toolkit (LAPE); [B] BYOL-A
(arXiv 2103.06695); [C] Contrastive Clustering (arXiv 2009.09687); [M] MoCo v2 (arXiv 2003.04297);
[ours] decided here, because the sources are silent or differ from each other.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

# The input is not a knob: an encoder only understands the spectrograms that it was trained on.
SAMPLE_RATE = 16_000  # Hz [R]
WINDOW = 15_200  # samples, 0.95 s: what the encoder sees at once [R]
N_FFT = 1024  # samples [R]
HOP = 160  # samples, 10 ms [R]
N_MELS = 64  # bands [R]
F_MIN, F_MAX = 60.0, 7800.0  # Hz [R]
FRAMES = WINDOW // HOP + 1  # 96 frames a window


@dataclass(frozen=True)
class Config:
    """All settings of a pre-training run. The defaults are the paper's, as far as they are known."""

    # Encoder
    channels: int = 64  # convolution channels; BYOL-A: 64 [B]
    dim: int = 2048  # size of an embedding; BYOL-A: 2,048 [B]
    dropout: float = 0.3  # between the encoder's two linear layers, student only; BYOL-A: 0.3 [B]

    # Heads
    projection_dim: int = 128  # size of the instance key [R][M]
    projection_layers: int = 1  # of the instance head: 1 [R], or 2 with a ReLU between them [M]
    clusters: int = 128  # M, columns of the soft assignment; released: 128 [R]

    # Mixing (k-mix)
    mixing: Literal["kmix", "mixup", "none"] = "kmix"  # partner: farthest cluster [P], any, no mixing at all
    mix_ratio: float = 0.4  # the partner's weight is uniform in [0, mix_ratio] [B]
    mix_memory: int = 2048  # recent inputs that partners are drawn from [B][R]
    mix_top_k: int = 128  # a partner is one of the most recent top_k of its cluster [R], recent: [ours]
    mix_centroids: int = 4  # K of the spherical k-means [R]
    mix_before_standardising: bool = False  # mix power spectra, not standardised ones [ours]

    # Random resize crop
    crop_min: float = 0.6  # smallest height and width of the box, as a share of the input [B]
    crop_max: float = 1.5  # largest; also the width of the canvas [B]
    two_windows: bool = False  # view 2 is of another window of the clip [ours]; of the same one [R]

    # Loss
    method: str = (
        "slicer"  # slicer [P], moco [M] (its instance loss), delores_m [R], byol_a [B], or one's own
    )
    temperature: float = 0.07  # of the instance loss; released: 0.07 [M][R]
    queue: int = 65_536  # negatives of the instance loss; released: 65,536 [M][R]
    mask_own_keys: bool = True  # whether a clip's own earlier keys are left out of the negatives [ours]
    cluster_temperature: float = 1.0  # of the cluster loss [C][R]
    instance_weight: float = 1.0  # of the instance loss in the sum [ours]
    cluster_weight: float = 1.0  # of the cluster loss in the sum [ours]
    entropy_weight: float = 1.0  # of the negative entropy in the cluster loss [C]
    decorrelation_weight: float = 1.0  # of delores_m's three terms [R]
    symmetric: bool = True  # whether view 2, too, goes to the student (clusters [P], keys [ours])
    teacher_momentum: float = 0.999  # of the exponential moving average; released: 0.999 [M][R]

    # Optimisation
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"  # released: sgd [R]; muon: muon.py
    learning_rate: float = 3e-4  # peak; released: 3e-4 [R]
    momentum: float = 0.9  # of SGD [R]
    weight_decay: float = 1e-4  # released: 1e-4 [R]
    warmup: float = 0.0  # share of the steps in which the learning rate rises from zero; released: none [R]
    schedule: Literal["constant", "cosine"] = "constant"  # after the warm-up; released: constant [R]
    batch_size: int = 512  # clips a step; released: 4 devices x 128 [R]
    steps: int = 24_400  # of the optimiser: 50 passes [R] over about 250,000 clips, as [P] is remembered
    seed: int = 0  # of everything random [ours]
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the device computes in it [ours]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):  # such as a seed of np.arange
                value = value.item()
                object.__setattr__(self, field.name, value)
            allowed = _ALLOWED.get(field.name)
            if allowed is None:
                continue
            kind, test, description = allowed
            right_kind = isinstance(value, (int, float) if kind is float else kind)
            if not right_kind or (kind is not bool and isinstance(value, bool)) or not test(value):
                raise ValueError(f"{field.name} = {value!r}: it must be {description}.")
        if self.crop_max < max(1.0, self.crop_min):
            raise ValueError(
                f"crop_max = {self.crop_max}: it must be at least 1 and at least crop_min ({self.crop_min})."
            )

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed; unknown names raise a ValueError that lists the known ones."""
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(f"There is no setting {name!r}. The settings are: {', '.join(known)}.")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def _at_least(kind: type, low: float) -> tuple[type, Any, str]:
    word = "a whole number" if kind is int else "a number"
    return kind, lambda v: low <= v < float("inf"), f"{word} of at least {low}"


def _above_zero() -> tuple[type, Any, str]:
    return float, lambda v: 0 < v < float("inf"), "a number above 0"


def _share(upper_open: bool = False) -> tuple[type, Any, str]:
    if upper_open:
        return float, lambda v: 0 <= v < 1, "a number from 0 to below 1"
    return float, lambda v: 0 <= v <= 1, "a number from 0 to 1"


def _one_of(*names: str) -> tuple[type, Any, str]:
    return str, lambda v: v in names, "one of " + ", ".join(names)


_ALLOWED: dict[str, tuple[type, Any, str]] = {
    "channels": _at_least(int, 1),
    "dim": _at_least(int, 1),
    "dropout": _share(upper_open=True),
    "projection_dim": _at_least(int, 1),
    "projection_layers": (int, lambda v: v in (1, 2), "1 or 2"),
    "clusters": _at_least(int, 2),
    "mixing": _one_of("kmix", "mixup", "none"),
    "mix_ratio": _share(),
    "mix_memory": _at_least(int, 1),
    "mix_top_k": _at_least(int, 1),
    "mix_centroids": _at_least(int, 2),
    "mix_before_standardising": (bool, lambda v: True, "True or False"),
    "crop_min": (float, lambda v: 0 < v <= 1, "a number above 0 and at most 1"),
    "crop_max": _above_zero(),
    "two_windows": (bool, lambda v: True, "True or False"),
    "method": (
        str,
        lambda v: v.strip() == v != "",
        "a name: slicer, moco, delores_m, byol_a, or your method's",
    ),
    "temperature": _above_zero(),
    "queue": _at_least(int, 1),
    "mask_own_keys": (bool, lambda v: True, "True or False"),
    "cluster_temperature": _above_zero(),
    "instance_weight": _at_least(float, 0),
    "cluster_weight": _at_least(float, 0),
    "entropy_weight": _at_least(float, 0),
    "decorrelation_weight": _at_least(float, 0),
    "symmetric": (bool, lambda v: True, "True or False"),
    "teacher_momentum": _share(),
    "optimizer": _one_of("sgd", "adamw", "muon"),
    "learning_rate": _above_zero(),
    "momentum": _share(upper_open=True),
    "weight_decay": _at_least(float, 0),
    "warmup": _share(),
    "schedule": _one_of("constant", "cosine"),
    "batch_size": _at_least(int, 2),
    "steps": _at_least(int, 1),
    "seed": (int, lambda v: 0 <= v < 2**63, "a whole number from 0 to below 2**63"),
    "precision": _one_of("auto", "fp32", "bf16"),
}

_SMALL_DATA: dict[str, Any] = {
    # For hours of sound instead of weeks; all [ours]. What was tried: docs/experiments.md.
    "dropout": 0.0,
    "clusters": 64,
    "temperature": 0.05,
    "queue": 2048,
    "teacher_momentum": 0.99,
    "optimizer": "muon",
    "learning_rate": 6e-3,
    "warmup": 0.025,
    "schedule": "cosine",
    "batch_size": 256,
    "steps": 1000,
}

PRESETS: dict[str, Config] = {
    # 1,000 steps are 17 to 23 minutes of two CPU cores, at the rates that README gives.
    "tiny": Config().replace(channels=32, dim=256, **_SMALL_DATA),
    # Longer, against more negatives, with one more layer in the instance head: each was as good or better inside
    # the train split.
    "small": Config().replace(
        channels=64,
        dim=512,
        **{**_SMALL_DATA, "projection_layers": 2, "queue": 8192, "steps": 1600},
    ),
    "paper": Config(),
}


def preset(name: str, **changes: Any) -> Config:
    """The settings called `tiny` (for CPUs), `small` or `paper`, with any field changed by keyword."""
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}. The presets are: {', '.join(PRESETS)}.")
    return PRESETS[name].replace(**changes)
