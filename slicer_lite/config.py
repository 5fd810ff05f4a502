"""Every knob, once: what it is, its unit, its default, where the default comes from, and what it may be.

Source marks: [P] the SLICER paper (arXiv 2211.01519); [R] the authors' released toolkit (LAPE); [B] BYOL-A
(arXiv 2103.06695); [C] Contrastive Clustering (arXiv 2009.09687); [M] MoCo v2 (arXiv 2003.04297);
[ours] decided here, because the sources are silent or differ from each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

# The input is not a knob: an encoder only understands the spectrograms that it was trained on.
SAMPLE_RATE = 16_000  # Hz [R]
WINDOW = 15_200  # samples, 0.95 s: what the encoder sees at once [R]
N_FFT = 1024  # samples [R]
HOP = 160  # samples, 10 ms [R]
N_MELS = 64  # bands [R]
F_MIN, F_MAX = 60.0, 7800.0  # Hz [R]
FRAMES = WINDOW // HOP + 1  # 96 frames a window


class _Rule(NamedTuple):
    """What a setting may be."""

    kind: type
    allows: Callable[[Any], bool]
    words: str  # after "it must be"


def _at_least(kind: type, low: float) -> _Rule:
    word = "a whole number" if kind is int else "a number"
    return _Rule(kind, lambda v: low <= v < float("inf"), f"{word} of at least {low}")


def _one_of(names: tuple[str, ...]) -> _Rule:
    return _Rule(str, lambda v: v in names, "one of " + ", ".join(names))


_ABOVE_ZERO = _Rule(float, lambda v: 0 < v < float("inf"), "a number above 0")
_SHARE = _Rule(float, lambda v: 0 <= v <= 1, "a number from 0 to 1")
_BELOW_ONE = _Rule(float, lambda v: 0 <= v < 1, "a number from 0 to below 1")
_SWITCH = _Rule(bool, lambda v: True, "True or False")
_LISTED = None  # one of those that its type lists


def _setting(default: Any, rule: _Rule | None, what: str, source: str, unit: str = "") -> Any:
    """A field whose metadata holds its rule, what it is, its source and its unit; `help` is for the command line."""
    help_text = what + (f" ({unit})" if unit else "") + (" " if source.startswith("[") else "; ") + source
    about = {"rule": rule, "what": what, "source": source, "unit": unit, "help": help_text}
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True)
class Config:
    """All settings of a pre-training run. Those of `Config()` are the paper's, as far as they are known."""

    # Encoder
    channels: int = _setting(64, _at_least(int, 1), "width of the convolutions", "BYOL-A: 64 [B]", "channels")
    dim: int = _setting(2048, _at_least(int, 1), "size of an embedding", "BYOL-A: 2,048 [B]", "numbers")
    dropout: float = _setting(
        0.3, _BELOW_ONE, "between the encoder's two linear layers, student only", "BYOL-A: 0.3 [B]", "share"
    )

    # Heads
    projection_dim: int = _setting(128, _at_least(int, 1), "size of the instance key", "[R][M]", "numbers")
    projection_layers: int = _setting(
        1,
        _Rule(int, lambda v: v in (1, 2), "1 or 2"),
        "of the instance head; two have a ReLU between them",
        "1 [R], 2 [M]",
        "layers",
    )
    clusters: int = _setting(
        128, _at_least(int, 2), "M, columns of the soft assignment", "released: 128 [R]", "clusters"
    )

    # Mixing (k-mix)
    mixing: Literal["kmix", "mixup", "none"] = _setting(
        "kmix", _LISTED, "the partner is of the farthest cluster, is any, or there is none", "kmix: [P]"
    )
    mix_ratio: float = _setting(
        0.4, _SHARE, "the partner's weight is uniform in [0, mix_ratio]", "[B]", "share"
    )
    mix_memory: int = _setting(
        2048, _at_least(int, 1), "recent inputs that partners are drawn from", "[B][R]", "clips"
    )
    mix_top_k: int = _setting(
        128,
        _at_least(int, 1),
        "a partner is one of the most recent top_k of its cluster",
        "[R], recent: [ours]",
        "clips",
    )
    mix_centroids: int = _setting(4, _at_least(int, 2), "K of the spherical k-means", "[R]", "clusters")
    mix_before_standardising: bool = _setting(
        False, _SWITCH, "mix power spectra, not standardised ones", "[ours]"
    )

    # Random resize crop
    crop_min: float = _setting(
        0.6,
        _Rule(float, lambda v: 0 < v <= 1, "a number above 0 and at most 1"),
        "smallest height and width of the box",
        "[B]",
        "share of the input's",
    )
    crop_max: float = _setting(
        1.5, _ABOVE_ZERO, "largest; also the width of the canvas", "[B]", "share of the input's"
    )
    two_windows: bool = _setting(
        False, _SWITCH, "view 2 is of another window of the clip", "another [ours], the same [R]"
    )

    # Loss
    method: str = _setting(
        "slicer",
        _Rule(
            str, lambda v: v.strip() == v != "", "a name: slicer, moco, delores_m, byol_a, or your method's"
        ),
        "slicer, moco (its instance loss), delores_m, byol_a, or one's own",
        "slicer [P], moco [M], delores_m [R], byol_a [B]",
    )
    temperature: float = _setting(0.07, _ABOVE_ZERO, "of the instance loss", "released: 0.07 [M][R]")
    queue: int = _setting(
        65_536, _at_least(int, 1), "negatives of the instance loss", "released: 65,536 [M][R]", "keys"
    )
    mask_own_keys: bool = _setting(
        True, _SWITCH, "whether a clip's own earlier keys are left out of the negatives", "[ours]"
    )
    cluster_temperature: float = _setting(1.0, _ABOVE_ZERO, "of the cluster loss", "[C][R]")
    instance_weight: float = _setting(1.0, _at_least(float, 0), "of the instance loss in the sum", "[ours]")
    cluster_weight: float = _setting(1.0, _at_least(float, 0), "of the cluster loss in the sum", "[ours]")
    entropy_weight: float = _setting(
        1.0, _at_least(float, 0), "of the negative entropy in the cluster loss", "[C]"
    )
    decorrelation_weight: float = _setting(1.0, _at_least(float, 0), "of delores_m's three terms", "[R]")
    symmetric: bool = _setting(
        True, _SWITCH, "whether view 2, too, goes to the student", "clusters [P], keys [ours]"
    )
    teacher_momentum: float = _setting(
        0.999, _SHARE, "of the exponential moving average", "released: 0.999 [M][R]"
    )

    # Optimisation
    optimizer: Literal["sgd", "adamw", "muon"] = _setting(
        "sgd", _LISTED, "what moves the student's weights", "released: sgd [R]; muon: training/muon.py"
    )
    learning_rate: float = _setting(3e-4, _ABOVE_ZERO, "at its peak", "released: 3e-4 [R]")
    momentum: float = _setting(0.9, _BELOW_ONE, "of SGD", "[R]")
    weight_decay: float = _setting(
        1e-4, _at_least(float, 0), "how strongly weights are drawn to zero", "released: 1e-4 [R]"
    )
    warmup: float = _setting(
        0.0,
        _SHARE,
        "while the learning rate rises from zero",
        "released: none [R]",
        "share of the steps",
    )
    schedule: Literal["constant", "cosine"] = _setting(
        "constant", _LISTED, "of the learning rate after the warm-up", "released: constant [R]"
    )
    batch_size: int = _setting(
        512,
        _at_least(int, 2),
        "of a step, all processes together",
        "released: 4 devices x 128 [R]",
        "clips",
    )
    steps: int = _setting(
        24_400,
        _at_least(int, 1),
        "updates of the student's weights",
        "24,400: 50 passes [R] over about 250,000 clips, as [P] is remembered",
        "steps",
    )
    seed: int = _setting(
        0,
        _Rule(int, lambda v: 0 <= v < 2**63, "a whole number from 0 to below 2**63"),
        "of everything random",
        "[ours]",
    )
    precision: Literal["auto", "fp32", "bf16"] = _setting(
        "auto", _LISTED, "auto: bf16 where the device computes in it", "[ours]"
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if hasattr(value, "item"):  # such as a seed of np.arange
                value = value.item()
                object.__setattr__(self, field.name, value)
            kind, allows, words = _rules()[field.name]
            right_kind = isinstance(value, (int, float) if kind is float else kind)
            if not right_kind or (kind is not bool and isinstance(value, bool)) or not allows(value):
                raise ValueError(f"{field.name} = {value!r}: it must be {words}.")
        if self.crop_max < max(1.0, self.crop_min):
            raise ValueError(
                f"crop_max = {self.crop_max}: it must be at least 1 and at least crop_min ({self.crop_min})."
            )

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed; unknown names raise a ValueError that lists the known ones."""
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise ValueError(f"There is no setting {name!r}. The settings are: {', '.join(names)}.")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


@cache
def _rules() -> dict[str, _Rule]:
    types = get_type_hints(Config)
    settings = dataclasses.fields(Config)
    return {field.name: field.metadata["rule"] or _one_of(get_args(types[field.name])) for field in settings}


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
