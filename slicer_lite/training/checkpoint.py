"""A run's whole state on disk, such that a crash at any moment loses at most the steps since the last save."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from slicer_lite.base.files import write_durably
from slicer_lite.share.weights import apart

KEPT = 2  # checkpoints
_DAMAGED = "damaged-"
_NAME = re.compile(r"step-(\d{8,})-([0-9a-f]{64})\.safetensors")
_ABOUT = "slicer-lite"  # the entry of the file's description, as in weights


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    step: int
    state: dict[str, Tensor]
    about: dict[str, Any]  # what else is known of it; empty if nothing was said


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Tensor], about: Mapping[str, Any] | None = None
) -> Path:
    """Write `step-<step>-<sha256 of the content>.safetensors` and drop all but the last two.

    The file appears under its name only when all of it is on the disk; its name tells whether it is whole.

    Args:
        about: what else is to be known of it, as JSON can hold it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = safetensors.torch.save(apart(state), {_ABOUT: json.dumps(about or {})})
    name = f"step-{step:08d}-{hashlib.sha256(content).hexdigest()}.safetensors"
    write_durably(folder / name, content)
    for _, old in _found(folder)[:-KEPT]:
        old.unlink()
    return folder / name


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; None if there is no checkpoint at all.

    A damaged one is named in a warning and the one before it serves.

    Raises:
        ValueError: there are checkpoints and all of them are damaged.
    """
    found = _found(folder)
    broken = len(found) > 0 or any(folder.glob(f"{_DAMAGED}step-*"))
    for step, path in reversed(found):
        content = path.read_bytes()
        match = _NAME.fullmatch(path.name)
        if match and hashlib.sha256(content).hexdigest() == match[2]:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
            return Checkpoint(step, safetensors.torch.load(content), about)
        # Set aside, so that it does not count among the checkpoints to keep.
        path.replace(path.with_name(f"{_DAMAGED}{path.name}"))
        warnings.warn(f"{path} is damaged (its checksum does not match): it is set aside.", stacklevel=2)
    if broken:
        raise ValueError(f"All checkpoints in {folder} are damaged. Begin again with another run folder.")
    return None


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint, whole or not; None if there is none."""
    return max((step for step, _ in _found(folder)), default=None)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's tensors by name: `<parameter number>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of `optimizer_state`. Settings (learning rate, …) stay as they are."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        weight = weights[int(number)]
        if value.shape == weight.shape:
            # In the weight's own memory layout: fused optimisers walk through both side by side in memory.
            value = torch.empty_like(weight, memory_format=torch.preserve_format).copy_(value)
        state.setdefault(int(number), {})[name] = value
    settings = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": settings})


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def load_into(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load a module's state and say what does not fit, if anything."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"The checkpoint belongs to another configuration: {error}") from None


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints from the oldest to the newest."""
    matches = [(_NAME.fullmatch(path.name), path) for path in folder.glob("step-*.safetensors")]
    return sorted((int(match[1]), path) for match, path in matches if match)
