"""slicer-lite: understand, run and extend SLICER.

import slicer_lite as sl

clips = sl.load_clips("sounds")
trained = sl.pretrain(sl.preset("tiny"), clips, "runs/first", steps=200)
embeddings = sl.embed(trained.encoder, clips)

Public names are loaded when they are first asked for, so that the import itself takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from slicer_lite import lape, probe
    from slicer_lite.audio.store import Clips, load_clips
    from slicer_lite.config import Config, preset
    from slicer_lite.explore.embed import embed
    from slicer_lite.method import kmix, losses
    from slicer_lite.method.crop import RandomResizeCrop
    from slicer_lite.method.encoder import Encoder, FrameEncoder
    from slicer_lite.method.kmix import KMix
    from slicer_lite.method.logmel import LogMel
    from slicer_lite.method.slicer import SLICER
    from slicer_lite.method.wrapped import as_encoder
    from slicer_lite.share import hear
    from slicer_lite.share.weights import Pretrained, load, load_encoder
    from slicer_lite.sounds import make_sounds
    from slicer_lite.training.pretrain import pretrain

_MODULE_OF = {
    "SLICER": "method.slicer",
    "Clips": "audio.store",
    "Config": "config",
    "Encoder": "method.encoder",
    "FrameEncoder": "method.encoder",
    "KMix": "method.kmix",
    "LogMel": "method.logmel",
    "Pretrained": "share.weights",
    "RandomResizeCrop": "method.crop",
    "as_encoder": "method.wrapped",
    "embed": "explore.embed",
    "load": "share.weights",
    "load_clips": "audio.store",
    "load_encoder": "share.weights",
    "make_sounds": "sounds",
    "preset": "config",
    "pretrain": "training.pretrain",
}
_MODULES = {"hear": "share.hear", "kmix": "method.kmix", "losses": "method.losses"}
_ROOMS = (
    "audio",
    "base",
    "config",
    "explore",
    "lape",
    "method",
    "probe",
    "share",
    "sounds",
    "training",
    "widgets",
)

__all__ = [
    "SLICER",
    "Clips",
    "Config",
    "Encoder",
    "FrameEncoder",
    "KMix",
    "LogMel",
    "Pretrained",
    "RandomResizeCrop",
    "as_encoder",
    "embed",
    "hear",
    "kmix",
    "lape",
    "load",
    "load_clips",
    "load_encoder",
    "losses",
    "make_sounds",
    "preset",
    "pretrain",
    "probe",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"slicer_lite.{_MODULE_OF[name]}"), name)
    elif name in _MODULES or name in _ROOMS:
        value = importlib.import_module(f"slicer_lite.{_MODULES.get(name, name)}")
    else:
        raise AttributeError(f"module 'slicer_lite' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
