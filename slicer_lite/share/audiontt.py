"""AudioNTT encoders of other people: the names that their layers have in LAPE's and BYOL-A's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from slicer_lite.method.encoder import Encoder

OURS = [f"features.{block}.{layer}" for block in range(3) for layer in (0, 1)]  # convolution and batch norm
LAPE = [f"features_{block + 1}.{layer}" for block in range(3) for layer in (0, 1)]
_BYOL_A = [f"features.{4 * block + layer}" for block in range(3) for layer in (0, 1)]  # all counted through


def encoder_of(state: Mapping[str, Tensor]) -> Encoder:
    """An encoder with the weights of a LAPE or BYOL-A AudioNTT checkpoint.

    Args:
        state: its state dict; keys may carry a prefix (`encoder.`, `module.encoder_q.`, …) and may come
            beside others, which are ignored.

    Raises:
        ValueError: no AudioNTT encoder, or more than one, is among the keys, or shapes are not those of one.
    """
    renamed = _renamed(state)
    lacking = {"features.0.0.weight", "fc.0.weight"} - set(renamed)
    if lacking:
        raise ValueError(f"Not an AudioNTT encoder: missing {sorted(lacking)}.")
    first, hidden = renamed["features.0.0.weight"], renamed["fc.0.weight"]
    if first.ndim != 4 or hidden.ndim != 2 or 0 in (*first.shape, *hidden.shape):
        raise ValueError(
            f"Not an AudioNTT encoder: its first convolution has the shape {tuple(first.shape)}, its first "
            f"linear layer {tuple(hidden.shape)}."
        )
    encoder = Encoder(n_mels=8 * hidden.shape[1] // len(first), channels=len(first), dim=len(hidden))
    try:
        missing, unexpected = encoder.load_state_dict(renamed, strict=False)
    except RuntimeError as error:
        raise ValueError(f"Not an AudioNTT encoder: {error}") from None
    may_lack = ("num_batches_tracked", "mean", "deviation")
    missing = [name for name in missing if name.rpartition(".")[2] not in may_lack]
    if missing or unexpected:
        raise ValueError(f"Not an AudioNTT encoder: missing {missing}, unexpected {list(unexpected)}.")
    return encoder


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The one encoder's entries, without their prefix and under our names, in single precision."""
    for theirs in (LAPE, OURS, _BYOL_A):
        last = f"{theirs[4]}.weight"  # the third convolution's, which no two ways call alike
        prefixes = [name.removesuffix(last) for name in state if name.endswith(last)]
        if len(prefixes) > 1:
            raise ValueError(
                f"Several encoders are in this state dict, under {prefixes}: pass the keys of one."
            )
        if prefixes:
            break
    else:
        raise ValueError(f"No AudioNTT encoder is among the keys, which begin {sorted(state)[:5]}.")
    ours = dict(zip(theirs, OURS, strict=True))
    renamed = {}
    for name, value in state.items():
        name = name.removeprefix(prefixes[0]) if name.startswith(prefixes[0]) else ""
        layer, _, rest = name.rpartition(".")
        # What has no name of ours is kept as it is, so that a network with more layers is refused.
        if name.startswith(("features", "fc.")):
            counter = rest == "num_batches_tracked"
            copy = value.detach().clone()
            renamed[f"{ours.get(layer, layer)}.{rest}"] = copy if counter else copy.float()
    return renamed
