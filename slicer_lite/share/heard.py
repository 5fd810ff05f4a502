"""Which clips weights have heard in pre-training: marks of them, a few kB, travel with the weights.

A probe says what an encoder makes of sounds that are new to it. Where it has heard a task's test clips, even without
their labels, the probe has to say so; weights are passed on, and the sounds that they were trained on are not.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # pandas comes with it, which loading weights should not wait for
    from slicer_lite.audio.store import Clips

NOTED = 4096  # clips of a run that are noted at most, in 27 kB; of more clips, evenly spaced ones [ours]
_BYTES = 5  # of a SHA-256: among 4,096 marks one that is none of them is found with a chance of 4e-9 [ours]
_BATCH = 256  # clips that are read at once


@dataclass(frozen=True)
class Heard:
    """What a run has heard.

    Attributes:
        clips: how many clips it had.
        noted: how many of them are noted.
        sounds: marks of their sound, see `marks_of_sounds`.
        names: marks of names, see `mark_of_name`, of what was cut or resampled before it was heard, and so is
            another sound than in its data set.
    """

    clips: int
    noted: int
    sounds: frozenset[bytes]
    names: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, clips: Clips) -> Heard:
        """A note of clips that are about to be heard, or of `NOTED` of them."""
        chosen = np.linspace(0, len(clips) - 1, min(len(clips), NOTED)).astype(int)
        return cls(len(clips), len(chosen), frozenset(marks_of_sounds(clips.subset(chosen))))

    def among(self, clips: Clips) -> tuple[np.ndarray, np.ndarray]:
        """`(N,)` bool twice: which of the clips are noted by their sound, and which by their name."""
        sounds = [mark in self.sounds for mark in marks_of_sounds(clips)]
        names = [bool(self.names) and mark_of_name(path) in self.names for path in clips.paths]
        return np.array(sounds, bool), np.array(names, bool)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; equal notes are equal texts."""
        marks = {"sounds": _as_text(self.sounds), "names": _as_text(self.names)}
        return {"clips": self.clips, "noted": self.noted, **marks}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Heard:
        """The reverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        clips, noted = int(values["clips"]), int(values["noted"])
        return cls(clips, noted, _from_text(values["sounds"]), _from_text(values["names"]))


def marks_of_sounds(clips: Clips) -> list[bytes]:
    """A mark of each clip: of its length and its first, middle and last window, bit for bit as decoded."""
    marks: list[bytes] = []
    for begin in range(0, len(clips), _BATCH):
        batch = np.arange(begin, min(begin + _BATCH, len(clips)))
        room = clips.room[batch]
        windows = [clips.windows(batch, starts).cpu().numpy() for starts in (0 * room, room // 2, room)]
        for length, parts in zip(clips.lengths[batch], np.stack(windows, 1), strict=True):
            marks.append(_mark(int(length).to_bytes(8, "little") + parts.tobytes()))
    return marks


def mark_of_name(path: str | Path) -> bytes:
    """A mark of a file's name and its folder's, without suffix: `yes/0a7c2a8d_nohash_0` of Speech Commands.

    Both are the same in every copy of a data set, wherever it lies and however its files are coded.
    """
    path = Path(path)
    return _mark(os.fsencode(f"{path.parent.name}/{path.stem}"))


def _mark(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_BYTES]


def _as_text(marks: Iterable[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(marks))).decode()


def _from_text(text: str) -> frozenset[bytes]:
    content = base64.b64decode(text, validate=True)
    return frozenset(content[begin : begin + _BYTES] for begin in range(0, len(content), _BYTES))
