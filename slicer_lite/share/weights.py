"""Trained weights as users pass them on: safetensors, which holds numbers and text and runs no code."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from slicer_lite.base.files import write_durably
from slicer_lite.base.randomness import seeded
from slicer_lite.config import Config
from slicer_lite.method.delores import DeLoResM
from slicer_lite.method.encoder import Encoder
from slicer_lite.method.moco import MoCo, Network
from slicer_lite.method.slicer import SLICER

METHODS: dict[str, type[MoCo]] = {"slicer": SLICER, "delores_m": DeLoResM, "moco": MoCo}  # of config.method
SUFFIX = ".safetensors"
LAPE_SUFFIXES = (".ckpt", ".pth", ".pt")  # files of the released toolkit and of BYOL-A
WEIGHTS = f"weights{SUFFIX}"  # the name inside a run folder
SHIPPED = Path(__file__).parent / "pretrained"  # weights that come with the package, and a card for each
_ABOUT = "slicer-lite"  # the entry of the file's description
_FORMAT = "weights 1"


@dataclass
class Pretrained:
    """A trained student, in evaluation mode, and what belongs to it.

    Attributes:
        network: encoder and heads. The encoder carries the statistics of its training data.
        centroids: `(K, 64)` of k-mix; None if the run did not use it.
        config: the settings of the run.
        step: steps trained; 0 for an untrained network.
    """

    network: Network
    centroids: Tensor | None
    config: Config
    step: int

    @property
    def encoder(self) -> Encoder:
        return self.network.encoder


def save_weights(path: Path, network: Network, centroids: Tensor | None, config: Config, step: int) -> None:
    """Write weights as one file of tensors and their description; see `slicer_lite.base.files.write_durably`."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if centroids is not None:
        tensors["centroids"] = centroids.detach().cpu().contiguous()
    about = {"format": _FORMAT, "step": step, "config": config.to_dict()}
    # One entry: safetensors writes several in no fixed order, and equal weights should be equal files.
    write_durably(path, safetensors.torch.save(tensors, {_ABOUT: json.dumps(about)}))


def load(source: str | Path) -> Pretrained:
    """Load trained weights.

    Args:
        source: a run folder, a `.safetensors` file (of a run, or one of its snapshots), or the name of weights
            that come with the package (`shipped()`), if there is no file or folder of that name.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: the file is damaged, or holds something else.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / WEIGHTS
        if not path.exists():
            raise FileNotFoundError(
                f"{path.parent} holds no {WEIGHTS}: is it a run folder, and has the run been stopped or ended?"
            )
    if not path.exists() and str(source) in shipped():
        path = SHIPPED / f"{source}{SUFFIX}"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: give a run folder, a {SUFFIX} file or the name of weights that come with the "
            f"package ({', '.join(shipped()) or 'there are none'})."
        )
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(json.loads((file.metadata() or {}).get(_ABOUT, "{}")))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (
        SafetensorError,
        OSError,
        ValueError,
        TypeError,
    ) as error:  # the latter two: no description in JSON
        hint = ""
        if path.suffix in LAPE_SUFFIXES:
            hint = (
                " Checkpoints of LAPE and BYOL-A are taken by `slicer-lite lape run`; `slicer-lite export --weights "
                f"{shlex.quote(str(path))} --out NAME.safetensors` makes ours of a SLICER checkpoint."
            )
        raise ValueError(f"{path} is not a readable safetensors file: {error}.{hint}") from None
    if about.get("format") != _FORMAT:
        raise ValueError(
            f"{path} holds no slicer-lite weights (format {about.get('format')!r}, expected {_FORMAT!r}). "
            "For checkpoints of LAPE or BYOL-A see slicer_lite.lape.load_audiontt."
        )
    try:
        config = Config().replace(**about["config"])
        network = _new_network(config, seed=0)
        centroids = tensors.pop("centroids", None)
        network.load_state_dict(tensors)
        step = int(about["step"])
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path} does not fit together: {error}") from None
    return Pretrained(network.eval().requires_grad_(False), centroids, config, step)


def shipped() -> list[str]:
    """The names of the weights that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


def load_finished(run_dir: str | Path) -> Pretrained | None:
    """`load` for a run that has made its last step; None if it has not, or is not there."""
    if not (Path(run_dir).expanduser() / WEIGHTS).exists():
        return None
    found = load(run_dir)
    return found if found.step == found.config.steps else None


def load_encoder(source: str | Path) -> Encoder:
    """The encoder of `load(source)`, in evaluation mode, with the statistics of its training data."""
    return load(source).encoder


def untrained_encoder(like: Encoder, seed: int = 0) -> Encoder:
    """An encoder of the same size and input statistics with random weights: a baseline to measure against."""
    with seeded(seed):
        encoder = Encoder(channels=like.channels, dim=like.dim)
    encoder.mean.copy_(like.mean)
    encoder.deviation.copy_(like.deviation)
    return encoder.eval().requires_grad_(False)


def untrained(like: Pretrained, seed: int = 0) -> Pretrained:
    """The same network with random weights and the same input statistics: a baseline to measure against."""
    network = _new_network(like.config, seed)
    network.encoder.mean.copy_(like.encoder.mean)
    network.encoder.deviation.copy_(like.encoder.deviation)
    return Pretrained(network.eval().requires_grad_(False), like.centroids, like.config, 0)


def _new_network(config: Config, seed: int) -> Network:
    """A network with weights drawn by `seed`; the caller's random numbers are not disturbed."""
    with seeded(seed):
        return METHODS[config.method].network(config)
