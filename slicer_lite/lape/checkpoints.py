"""Checkpoints under the released toolkit's names, so that its users can come and go.

LAPE trains with PyTorch Lightning: a file of `torch.save` whose entry `state_dict` holds the student as
`encoder_q.…`, the teacher as `encoder_k.…`, and the queue [R].
"""

from __future__ import annotations

import io
import math
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import slicer_lite
from slicer_lite.base.files import write_durably
from slicer_lite.base.randomness import seeded
from slicer_lite.config import N_MELS, Config
from slicer_lite.method.encoder import Encoder
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share import audiontt
from slicer_lite.share.weights import Pretrained, heard_of_file, known_settings

_STUDENT = "encoder_q."
_NAMES = {
    **{
        f"encoder.{ours}.": f"encoder.{lape}."
        for ours, lape in zip(audiontt.OURS, audiontt.LAPE, strict=True)
    },
    "encoder.fc.": "encoder.fc.",
    "instance_head.": "instance_projector.",
    "cluster_head.": "cluster_projector.",
}
_OURS = "slicer-lite"  # beside `state_dict`: what the released names have no place for


def to_lape(pretrained: Pretrained) -> dict[str, Tensor]:
    """The student's weights under LAPE's names: `encoder_q.encoder.features_1.0.weight` and so on.

    Raises:
        ValueError: it was trained by another method than SLICER, or with an instance head of two layers.
    """
    if pretrained.config.method != "slicer":
        raise ValueError(
            f"method = {pretrained.config.method!r}: only SLICER's networks have names in LAPE here."
        )
    if pretrained.config.projection_layers != 1:
        raise ValueError(
            "projection_layers = 2: LAPE's instance head is one layer. Save it under a name that ends in "
            ".safetensors, .onnx or .pt2."
        )
    named = {}
    for ours, value in pretrained.network.state_dict().items():
        for begin, theirs in _NAMES.items():
            if ours.startswith(begin):
                named[f"{_STUDENT}{theirs}{ours.removeprefix(begin)}"] = value.detach().cpu().contiguous()
    return named


def from_lape(state: Mapping[str, Tensor], mean: float = 0.0, deviation: float = 1.0) -> Pretrained:
    """Encoder and both heads of a SLICER state dict under LAPE's names.

    Args:
        state: the entry `state_dict` of a checkpoint; the teacher and the queue in it are not read.
        mean, deviation: of the log-mels that it was trained on. LAPE stores none; 0 and 1 give the encoder
            unstandardised log-mels, as LAPE's own downstream script does [R].

    Raises:
        ValueError: names or shapes are not those of SLICER in LAPE, or the statistics cannot be. For an encoder
            alone, as BYOL-A and DeLoRes leave it, see `Encoder.from_audiontt`.
    """
    student = {k.removeprefix(_STUDENT): v for k, v in state.items() if k.startswith(_STUDENT)}
    heads: dict[str, Tensor] = {}
    for ours, theirs in _NAMES.items():
        if not ours.startswith("encoder."):
            heads |= {
                ours + k.removeprefix(theirs): v.float() for k, v in student.items() if k.startswith(theirs)
            }
    needed = ("instance_head.weight", "cluster_head.0.weight", "cluster_head.2.weight")
    missing = [name for name in needed if name not in heads]
    if missing:
        raise ValueError(
            f"No SLICER student is among the keys, which begin {sorted(state)[:3]}: missing {', '.join(missing)}."
        )
    with seeded(0):  # the caller's random numbers are not disturbed
        return _assembled(student, heads, mean, deviation)


def _assembled(
    student: Mapping[str, Tensor], heads: dict[str, Tensor], mean: float, deviation: float
) -> Pretrained:
    encoder = Encoder.from_audiontt({k: v for k, v in student.items() if k.startswith("encoder.")})
    config = Config(
        channels=encoder.channels, dim=encoder.dim,
        projection_dim=len(heads["instance_head.weight"]), clusters=len(heads["cluster_head.2.weight"]),
    )  # fmt: skip
    _give_statistics(encoder, mean, deviation)
    network = SLICERNetwork(config)
    whole = heads | {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    try:
        network.load_state_dict(whole)
    except RuntimeError as error:
        raise ValueError(f"The heads do not fit the encoder: {error}") from None
    return Pretrained(network.eval().requires_grad_(False), None, config, 0)


def _give_statistics(encoder: Encoder, mean: float, deviation: float) -> None:
    if not (math.isfinite(mean) and 0 < deviation < math.inf):
        raise ValueError(
            f"mean = {mean}, deviation = {deviation}: both must be finite, and the deviation above 0."
        )
    encoder.mean.fill_(mean)
    encoder.deviation.fill_(deviation)


def save_lape(pretrained: Pretrained, path: str | Path) -> None:
    """Write `to_lape(pretrained)` as LAPE reads it, a `torch.save` of `{"state_dict": …}`; replaces the file.

    Beside it, under a key of its own, stand settings, step, statistics and centroids, so that `load_lape`
    gives back everything.
    """
    encoder, centroids = pretrained.encoder, pretrained.centroids
    ours = {
        "version": slicer_lite.__version__,
        "config": pretrained.config.to_dict(),
        "step": pretrained.step,
        "mean": encoder.mean.item(),
        "deviation": encoder.deviation.item(),
        "centroids": None if centroids is None else centroids.cpu(),
        "heard": None if pretrained.heard is None else pretrained.heard.to_dict(),
    }
    content = io.BytesIO()
    torch.save({"state_dict": to_lape(pretrained), _OURS: ours}, content)
    write_durably(Path(path).expanduser(), content.getvalue())


def load_lape(path: str | Path, mean: float | None = None, deviation: float | None = None) -> Pretrained:
    """Read a checkpoint under LAPE's names, written by LAPE or by `save_lape`.

    Nothing but tensors and plain values is ever unpickled.

    Args:
        path: a `.ckpt` or `.pt` file.
        mean, deviation: see `from_lape`; by default those in the file, if it has them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, holds other objects than tensors, or another model.
    """
    state, ours = _read(path)
    try:
        pretrained = from_lape(
            state,
            ours.get("mean", 0.0) if mean is None else mean,
            ours.get("deviation", 1.0) if deviation is None else deviation,
        )
        if ours:
            config = known_settings(ours["config"], Path(path), ours.get("version"))
            for name in ("channels", "dim", "projection_dim", "clusters"):
                in_weights, in_settings = getattr(pretrained.config, name), getattr(config, name)
                if in_weights != in_settings:
                    raise ValueError(
                        f"{name} = {in_settings} in its settings, and {in_weights} in its weights."
                    )
            pretrained.config = config
            pretrained.step, pretrained.centroids = int(ours["step"]), ours["centroids"]
            pretrained.heard = heard_of_file(ours.get("heard"), Path(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return pretrained


def load_audiontt(path: str | Path) -> Encoder:
    """The encoder alone of a checkpoint of LAPE (any of its methods) or BYOL-A, in evaluation mode.

    Of a student and a teacher the student is taken. Such files hold no input statistics, unless `save_lape`
    wrote them: mean and deviation are then 0 and 1, and `slicer_lite.explore.embed.set_statistics` gives others.
    BYOL-A's own evaluation takes those of the task's train split. The log-mels are taken to be ours: both toolkits
    pre-train on librosa's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, holds other objects than tensors, or no AudioNTT encoder of 64 bands.
    """
    state, ours = _read(path)
    student = {name: value for name, value in state.items() if name.startswith(_STUDENT)}
    try:
        encoder = Encoder.from_audiontt(student or state)
        _give_statistics(encoder, ours.get("mean", 0.0), ours.get("deviation", 1.0))
    except (ValueError, TypeError) as error:  # TypeError: statistics that are no numbers
        raise ValueError(f"{path}: {error}") from None
    if encoder.n_mels != N_MELS:
        raise ValueError(f"{path} holds an encoder of {encoder.n_mels} mel bands; here there are {N_MELS}.")
    return encoder.eval().requires_grad_(False)


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint's state dict, and what `save_lape` has put beside it, if it has."""
    path = Path(path).expanduser()
    if not path.is_file():
        wrong = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {wrong}: give a checkpoint file.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # said better below
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} is damaged, or no checkpoint of PyTorch ({type(error).__name__}): fetch or write it again."
        ) from None
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} cannot be read without running code that it may hold ({str(error).splitlines()[0]}). Lightning "
            "puts settings and classes beside the weights. Where you trust the file, keep its weights only: "
            f"import torch; c = torch.load({str(path)!r}, weights_only=False); "
            f"torch.save({{'state_dict': c['state_dict']}}, 'weights.ckpt')."
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("state_dict", content), dict):
        raise ValueError(f"{path} holds no state dict but {type(content).__name__}.")
    state = content.get("state_dict", content)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    ours = content.get(_OURS)
    return tensors, ours if isinstance(ours, dict) else {}
