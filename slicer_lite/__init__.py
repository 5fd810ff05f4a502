"""slicer-lite: understand, run and extend SLICER.

import slicer_lite as sl

clips = sl.load_clips("sounds")
trained = sl.pretrain(sl.preset("tiny"), clips, "runs/first", steps=200)
embeddings = sl.embed(trained.encoder, clips)

Public names are loaded when they are first asked for, so that the import itself takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slicer_lite.base.on_demand import on_demand

__version__ = "0.2.0"

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
    from slicer_lite.share import hear
    from slicer_lite.share.weights import Pretrained, load, load_encoder
    from slicer_lite.share.wrapped import as_encoder
    from slicer_lite.sounds import make_sounds
    from slicer_lite.training.pretrain import pretrain

_PARTS = [
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
]
_HOMES = {
    **{room: f"{room}:" for room in _PARTS},
    "Clips": "audio.store",
    "Config": "config",
    "Encoder": "method.encoder",
    "FrameEncoder": "method.encoder",
    "KMix": "method.kmix",
    "LogMel": "method.logmel",
    "Pretrained": "share.weights",
    "RandomResizeCrop": "method.crop",
    "SLICER": "method.slicer",
    "as_encoder": "share.wrapped",
    "embed": "explore.embed",
    "hear": "share.hear:",
    "kmix": "method.kmix:",
    "load": "share.weights",
    "load_clips": "audio.store",
    "load_encoder": "share.weights",
    "losses": "method.losses:",
    "make_sounds": "sounds",
    "preset": "config",
    "pretrain": "training.pretrain",
}

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


__getattr__ = on_demand(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
