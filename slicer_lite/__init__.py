"""slicer-lite: understand, run and extend SLICER.

import slicer_lite as sl

clips = sl.load_clips("sounds")
trained = sl.pretrain(sl.preset("tiny"), clips, "runs/first", steps=200)
embeddings = sl.embed(trained.encoder, clips)
"""

__version__ = "0.1.0"

from slicer_lite import hear, kmix, lape, losses
from slicer_lite.config import Config, preset
from slicer_lite.crop import RandomResizeCrop
from slicer_lite.embed import embed
from slicer_lite.encoder import Encoder
from slicer_lite.kmix import KMix
from slicer_lite.logmel import LogMel
from slicer_lite.slicer import SLICER
from slicer_lite.sounds import make_sounds
from slicer_lite.store import Clips, load_clips
from slicer_lite.train import pretrain
from slicer_lite.weights import Pretrained, load, load_encoder

__all__ = [
    "SLICER",
    "Clips",
    "Config",
    "Encoder",
    "KMix",
    "LogMel",
    "Pretrained",
    "RandomResizeCrop",
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
]
