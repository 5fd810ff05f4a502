"""Trained weights as users pass them on: safetensors, which holds numbers and text and runs no code."""

from __future__ import annotations

import dataclasses
import json
import reprlib
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import slicer_lite
from slicer_lite.base.files import parse_json, write_durably
from slicer_lite.base.randomness import seeded
from slicer_lite.config import N_MELS, Config
from slicer_lite.method.encoder import Encoder, FrameEncoder
from slicer_lite.method.method import Network
from slicer_lite.method.registry import MakesEncoder, MakesMethod, name_of, new_network
from slicer_lite.share.heard import Heard
from slicer_lite.share.wrapped import fresh, kind_of, makes_encoder

SUFFIX = ".safetensors"
LAPE_SUFFIXES = (".ckpt", ".pth", ".pt")  # files of the released toolkit and of BYOL-A
WEIGHTS = f"weights{SUFFIX}"  # the name inside a run folder
SHIPPED = Path(__file__).parent / "pretrained"  # weights that come with the package, and a card for each
_ABOUT = "slicer-lite"  # the entry of the file's description
_FORMAT = "weights 1"


@dataclass
class Pretrained:
    """A trained student, in evaluation mode and frozen (see `load_encoder`), and what belongs to it.

    Attributes:
        network: encoder and heads. The encoder carries the statistics of its training data.
        centroids: `(K, 64)` of k-mix; None if the run did not use it.
        config: the settings of the run.
        step: steps trained; 0 for an untrained network.
        heard: a note of the clips that it was trained on; None where that is not known.
        makers: a method and an encoder of the user's own, if it was made with them.
    """

    network: Network
    centroids: Tensor | None
    config: Config
    step: int
    heard: Heard | None = None
    makers: tuple[MakesMethod | None, MakesEncoder | None] = (None, None)

    @property
    def encoder(self) -> Encoder:
        return self.network.encoder


def save_weights(
    path: Path,
    network: Network,
    centroids: Tensor | None,
    config: Config,
    step: int,
    heard: Heard | None = None,
) -> None:
    """Write weights as one file of tensors and their description; see `slicer_lite.base.files.write_durably`."""
    tensors = apart(network.state_dict())
    if centroids is not None:
        tensors["centroids"] = centroids.detach().cpu().contiguous()
    about = {"format": _FORMAT, "version": slicer_lite.__version__, "step": step, "config": config.to_dict()}
    if heard is not None:
        about["heard"] = heard.to_dict()
    if not network.is_audiontt:
        about["encoder"] = kind_of(network.encoder)
    # One entry: safetensors writes several in no fixed order, and equal weights should be equal files.
    write_durably(path, safetensors.torch.save(tensors, {_ABOUT: json.dumps(about)}))


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, contiguous, each with its own memory (weights may be tied)."""
    taken: set[int] = set()
    ready = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        ready[name] = value.clone() if value.untyped_storage().data_ptr() in taken else value
        taken.add(value.untyped_storage().data_ptr())
    return ready


def load(
    source: str | Path, method: MakesMethod | None = None, encoder: MakesEncoder | None = None
) -> Pretrained:
    """Load trained weights.

    The file's header is checked before a network is built, so that what it claims costs nothing. Settings that this
    version does not know, of weights that a later one has written, are left out with a note.

    Args:
        source: a run folder, a `.safetensors` file (of a run, or one of its snapshots), or the name of weights
            that come with the package (`shipped()`), if there is no file or folder of that name.
        method, encoder: of your own, if it was trained with them: what `slicer_lite.pretrain` was given.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: the file is damaged, or holds something else, or needs a method or an encoder that is not given.
    """
    path = Path(source).expanduser()
    if str(source) in shipped():
        path = _here_or_shipped(path, str(source))
    if path.is_dir():
        path = path / WEIGHTS
        if not path.exists():
            raise FileNotFoundError(
                f"{path.parent} holds no {WEIGHTS}: is it a run folder, and has the run been stopped or ended?"
            )
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: give a run folder, a {SUFFIX} file or the name of weights that come with the "
            f"package ({', '.join(shipped()) or 'there are none'})."
        )
    try:
        file = safe_open(path, framework="pt")
        about = parse_json((file.metadata() or {}).get(_ABOUT, "{}"))
    except (SafetensorError, OSError, ValueError) as error:  # ValueError: the description is no JSON
        hint = ""
        if path.suffix in LAPE_SUFFIXES:
            hint = (
                " Checkpoints of LAPE and BYOL-A are taken by `slicer-lite lape run`; `slicer-lite export --weights "
                f"{shlex.quote(str(path))} --out NAME.safetensors` makes ours of a SLICER checkpoint."
            )
        raise ValueError(f"{path} is not a readable safetensors file: {error}.{hint}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} holds no slicer-lite weights: its description is no table.")
    if about.get("format") != _FORMAT:
        raise ValueError(
            f"{path} holds no slicer-lite weights (format {reprlib.repr(about.get('format'))}, expected "
            f"{_FORMAT!r}). For checkpoints of LAPE or BYOL-A see slicer_lite.lape.load_audiontt."
        )
    try:
        with file:
            config = known_settings(about["config"], path, about.get("version"))
            step = _whole_number("step", about["step"])
            _check_makers(config, about.get("encoder"), method, encoder)
            _check_shapes(file, config, method, encoder)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        network = _new_network(config, 0, method, encoder)
        centroids = tensors.pop("centroids", None)
        network.load_state_dict(tensors)
    except KeyError as error:
        raise ValueError(f"{path} does not fit together: its description lacks {error}.") from None
    except (ValueError, TypeError, RuntimeError, OverflowError, SafetensorError) as error:
        # RuntimeError: sizes beyond all numbers, and a RecursionError is one, too.
        raise ValueError(f"{path} does not fit together: {str(error)[:500]}") from None
    heard = heard_of_file(about.get("heard"), path)
    return Pretrained(network.eval().requires_grad_(False), centroids, config, step, heard, (method, encoder))


def _here_or_shipped(path: Path, name: str) -> Path:
    """What a name of shipped weights means: the file or folder of that name that is here, if there is one."""
    own = SHIPPED / f"{name}{SUFFIX}"
    if not path.exists():
        return own
    if path.is_dir() and not (path / WEIGHTS).exists():
        raise FileNotFoundError(
            f"The folder {path.absolute()} holds no {WEIGHTS}, and it hides the weights {name!r} that come with the "
            f"package: rename it, or give their path, {own}."
        )
    warnings.warn(
        f"{name!r} is here the {'folder' if path.is_dir() else 'file'} {path.absolute()}, not the weights that come "
        f"with the package, {own}. Its whole path means the same without this note.",
        stacklevel=3,
    )
    return path


def known_settings(found: Any, source: Path, version: Any) -> Config:
    """The settings of a file, but for those that only a later version knows: these are left out with a note.

    Args:
        found: names and values.
        source: the file, for the note.
        version: that wrote the file, if it says so.

    Raises:
        ValueError: they are no such table, or a setting has a value that it cannot have.
    """
    if not isinstance(found, dict):
        raise ValueError("its settings are no table of names and values.")
    known = {field.name for field in dataclasses.fields(Config)}
    if unknown := sorted(found.keys() - known):
        wrote = "a version that it does not name" if version is None else f"slicer-lite {version}"[:50]
        shown = ", ".join(unknown)
        warnings.warn(
            f"{source} has settings that slicer-lite {slicer_lite.__version__} does not know, and they are left out: "
            f"{shown[:200]}{'…' * (len(shown) > 200)}. It was written by {wrote}, which knows them.",
            stacklevel=3,
        )
    return Config().replace(**{name: value for name, value in found.items() if name in known})


def _whole_number(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} = {reprlib.repr(value)}: it must be a whole number of at least 0.")
    return value


def _check_makers(
    config: Config, trained: Any, method: MakesMethod | None, encoder: MakesEncoder | None
) -> None:
    """See that the method and the encoder that weights were trained with are at hand.

    Args:
        trained: what the encoder is called, if it is not AudioNTT.
    """
    if method is not None and name_of(method) != config.method:
        raise ValueError(f"its method is {config.method!r}, not {name_of(method)!r}.")
    if trained is None and encoder is not None:
        raise ValueError("its encoder is AudioNTT: leave encoder= out.")
    if trained is not None and encoder is None:
        raise ValueError(
            f"its encoder is {str(trained)[:50]}, not AudioNTT: give encoder=, the class or function that makes it."
        )


def _check_shapes(
    file: Any, config: Config, method: MakesMethod | None, encoder: MakesEncoder | None
) -> None:
    """See from its header that an open file holds the tensors of a network of these settings, and no others.

    Raises:
        ValueError: names the first that are missing, of another shape or kind, or too many.
    """
    with seeded(0), torch.device("meta"):  # of shapes alone, which take no memory, whatever their size
        tensors = new_network(config, method, makes_encoder(encoder)).state_dict()
    names = list(file.keys())
    if "centroids" in names:
        tensors["centroids"] = torch.empty(config.mix_centroids, N_MELS, device="meta")
    wrong = [f"it lacks {name}" for name in tensors if name not in names]
    wrong += [
        f"it holds {reprlib.repr(name)[1:-1]}, which is no part of it"
        for name in names
        if name not in tensors
    ]
    for name, expected in tensors.items():
        if name not in names:
            continue
        part = file.get_slice(name)
        if (shape := tuple(part.get_shape())) != tuple(expected.shape):
            wrong.append(f"{name} is {shape}, not {tuple(expected.shape)}")
        elif part.get_dtype().startswith(("F", "BF")) != expected.is_floating_point():
            wrong.append(f"{name} holds {part.get_dtype()}")
    if wrong:
        raise ValueError(f"{'; '.join(wrong[:3])}{'; …' * (len(wrong) > 3)}.")


def heard_of_file(found: Any, path: Path) -> Heard | None:
    """The note of what a file's weights have heard; None without one, or, with a warning, of a damaged one."""
    if found is None:
        return None
    try:
        return Heard.from_dict(found)
    except (KeyError, TypeError, ValueError, OverflowError):
        warnings.warn(
            f"{path}: the note of what these weights have heard cannot be read, so it is not known. The weights "
            "themselves are whole.",
            stacklevel=3,
        )
        return None


def shipped() -> list[str]:
    """The names of the weights that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


def load_finished(
    run_dir: str | Path, method: MakesMethod | None = None, encoder: MakesEncoder | None = None
) -> Pretrained | None:
    """`load` for a run that has made its last step; None if it has not, or is not there."""
    if not (Path(run_dir).expanduser() / WEIGHTS).exists():
        return None
    found = load(run_dir, method, encoder)
    return found if found.step == found.config.steps else None


def load_encoder(
    source: str | Path, method: MakesMethod | None = None, encoder: MakesEncoder | None = None
) -> FrameEncoder:
    """The encoder of `load(source, method, encoder)`, in evaluation mode, with the statistics of its training data.

    It is frozen: its weights have `requires_grad = False`. To fine-tune it, let them learn, and batch norms and
    dropout behave as in training:

        encoder = sl.load_encoder("tiny").requires_grad_(True).train()
        frames = encoder(encoder.standardise(sl.LogMel()(waveforms)))  # (B, S) -> (B, T', dim)
        embeddings = encoder.pool(frames)  # (B, dim), with gradients; `sl.embed` gives none
    """
    return load(source, method, encoder).encoder


def untrained_encoder(like: FrameEncoder, seed: int = 0) -> FrameEncoder:
    """An encoder of the same kind and input statistics with random weights: a baseline to measure against.

    Raises:
        ValueError: see `slicer_lite.share.wrapped.fresh`.
    """
    with seeded(seed):
        encoder = fresh(like)
    encoder.mean.copy_(like.mean)
    encoder.deviation.copy_(like.deviation)
    return encoder.eval().requires_grad_(False)


def untrained(like: Pretrained, seed: int = 0) -> Pretrained:
    """The same network with random weights and the same input statistics: a baseline to measure against."""
    network = _new_network(like.config, seed, *like.makers)
    network.encoder.mean.copy_(like.encoder.mean)
    network.encoder.deviation.copy_(like.encoder.deviation)
    return Pretrained(
        network.eval().requires_grad_(False), like.centroids, like.config, 0, makers=like.makers
    )


def _new_network(
    config: Config, seed: int, method: MakesMethod | None = None, encoder: MakesEncoder | None = None
) -> Network:
    """A network with weights drawn by `seed`; the caller's random numbers are not disturbed."""
    with seeded(seed):
        return new_network(config, method, makes_encoder(encoder))
