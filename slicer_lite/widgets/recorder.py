"""The recorder: a sound of one's own, from a file or the microphone, among the clips that a model knows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure

from slicer_lite.audio.decode import resample
from slicer_lite.audio.store import Clips, check_waveforms, load_clips
from slicer_lite.config import SAMPLE_RATE
from slicer_lite.explore import clusters, figures
from slicer_lite.explore.embed import embed
from slicer_lite.method.logmel import LogMel
from slicer_lite.share.weights import Pretrained
from slicer_lite.widgets.common import Widget, front_end, pixels, wav

_LONGEST = 10 * SAMPLE_RATE  # samples of a sound that are shown and played


@dataclass(frozen=True)
class Heard:
    """What the recorder found for a sound.

    Attributes:
        name: of the file, or `microphone`.
        waveform: `(S,)` float32 in [-1, 1] at 16 kHz.
        embedding: `(dim,)`.
        neighbours: `(K,)` numbers of the clips whose embeddings are most like it, the most alike first.
        similarities: `(K,)` their cosines.
        assignment: `(M,)` the sound's share in each cluster; None of a model without clusters (`moco`, `delores_m`).
    """

    name: str
    waveform: np.ndarray
    embedding: np.ndarray
    neighbours: np.ndarray
    similarities: np.ndarray
    assignment: np.ndarray | None


class Recorder(Widget):
    """Record or open a sound, and hear which clips the model finds most like it.

        recorder = Recorder(pretrained, clips)
        recorder                                      # shows it; or, without hands:
        recorder.hear(waveform, "my dog")

    The browser decodes the file (wav, mp3, ogg, flac, m4a, … whatever it can play) to mono at 48 kHz, and Python
    resamples it as it does files: browsers' own resamplers differ.

    Args:
        pretrained: of `slicer_lite.load` or `slicer_lite.pretrain`.
        clips: among which neighbours are looked for.
        embeddings: `(N, dim)` of the clips, if they are there already; by default they are computed.
        neighbours: how many are shown.

    Attributes:
        heard: the last sound and what was found for it; None before the first.

    Raises:
        ValueError: embeddings that do not fit the clips or the model.
    """

    _esm = front_end("recorder.js")

    rate = traitlets.Int(48_000, help="samples a second that the page sends").tag(sync=True)
    seconds = traitlets.Float(10.0, help="longest sound that is taken").tag(sync=True)

    def __init__(
        self,
        pretrained: Pretrained,
        clips: Clips | str | Path | Sequence[np.ndarray],
        embeddings: np.ndarray | None = None,
        neighbours: int = 3,
    ):
        super().__init__()
        clips = load_clips(clips)
        if embeddings is None:
            embeddings = embed(pretrained.encoder, clips)
        if embeddings.shape != (len(clips), pretrained.encoder.dim):
            raise ValueError(
                f"Expected embeddings of shape ({len(clips)}, {pretrained.encoder.dim}): a row for each clip, from "
                f"this model's encoder. Got {embeddings.shape}."
            )
        self.heard: Heard | None = None
        self._pretrained, self._clips, self._embeddings = pretrained, clips, embeddings
        self._count = min(neighbours, len(clips))
        assignments = self._assign(embeddings)
        self._first_choice = None if assignments is None else assignments.argmax(1)  # (N,)

    def hear(self, waveform: np.ndarray, name: str = "your sound") -> Heard:
        """Embed a sound, find its neighbours and its cluster, and show them.

        Args:
            waveform: `(S,)` floats at 16 kHz; a peak above 1 is scaled down to 1.
            name: to show it by.

        Raises:
            ValueError: a waveform that is silent, or none; see `Clips.from_waveforms`.
        """
        (waveform,) = check_waveforms([waveform])
        if not waveform.any():
            raise ValueError(f"{name} is silent: is the microphone switched on?")
        embedding = embed(self._pretrained.encoder, [waveform])
        neighbours, similarities = clusters.nearest(embedding, self._embeddings, self._count)
        assignments = self._assign(embedding)
        assignment = None if assignments is None else assignments[0]
        self.heard = Heard(name, waveform, embedding[0], neighbours[0], similarities[0], assignment)
        self._show()
        return self.heard

    def receive(self, message: dict[str, Any], buffers: list[Any]) -> None:
        """`sound`: `(S,)` float32 samples in the buffer, `rate` a second. `hello`: a page has been opened."""
        if message["type"] == "sound":
            self.hear(resample(np.frombuffer(buffers[0], "<f4"), message["rate"]), message["name"])
        elif message["type"] == "hello":
            self._show()

    def picture(self) -> Figure:
        """The log-mels of the sound and its neighbours."""
        if self.heard is None:
            figure = Figure(figsize=(6, 0.5))
            figure.text(0.01, 0.4, "No sound has been heard yet.")
            return figure
        sounds = self._sounds(self.heard)
        pictures = [_logmel(waveform) for _, waveform in sounds]
        low, high = min(p.min() for p in pictures), max(p.max() for p in pictures)
        figure = Figure(figsize=(3 * len(sounds), 3), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(sounds)))
        for axes, picture, (title, _) in zip(panels, pictures, sounds, strict=True):
            figures.show_logmel(axes, picture, textwrap.fill(title, 30), vmin=low, vmax=high)
            axes.title.set_fontsize(9)
            axes.label_outer()
        figure.suptitle(textwrap.fill(self._cluster(self.heard), 120), fontsize=9)
        return figure

    def _assign(self, embeddings: np.ndarray) -> np.ndarray | None:
        """`(N, M)` assignments of `(N, dim)` embeddings; None of a model without clusters."""
        known = clusters.has_clusters(self._pretrained)
        return clusters.soft_assignments(self._pretrained, embeddings) if known else None

    def _sounds(self, heard: Heard) -> list[tuple[str, np.ndarray]]:
        """A title and a waveform for the sound and each of its neighbours, of long ones their beginning."""
        neighbours = zip(heard.neighbours, heard.similarities, strict=True)
        sounds = [
            (heard.name, heard.waveform),
            *(
                (f"{self._clips.describe(i)}, cosine {cosine:.3f}", self._clips[i])
                for i, cosine in neighbours
            ),
        ]
        return [
            (f"{title} (its beginning)", x[:_LONGEST]) if len(x) > _LONGEST else (title, x)
            for title, x in sounds
        ]

    def _cluster(self, heard: Heard) -> str:
        """Its cluster in words, and what else is there; nothing of a model without clusters."""
        if heard.assignment is None or self._first_choice is None:
            return ""
        first = int(heard.assignment.argmax())
        share = heard.assignment[first]
        members = np.flatnonzero(self._first_choice == first)
        sentence = (
            f"Cluster {first}, with a share of {share:.3f} (an even share would be {1 / len(heard.assignment):.3f}). "
            f"It is the first choice of {len(members)} of the {len(self._clips):,} clips"
        )
        labels = self._clips.rows[self._clips.rows["clip"].isin(members)]["label"].value_counts()
        frequent = ", ".join(f"{label} ({count})" for label, count in labels.head(3).items())
        return f"{sentence}; most frequent labels: {frequent}." if frequent else f"{sentence}."

    def _show(self) -> None:
        if self.heard is None:
            return
        sounds = self._sounds(self.heard)
        pictures = [_logmel(waveform) for _, waveform in sounds]
        low, high = min(p.min() for p in pictures), max(p.max() for p in pictures)
        self.send(
            {
                "type": "heard",
                "cluster": self._cluster(self.heard),
                "sounds": [
                    {"title": title, "seconds": len(waveform) / SAMPLE_RATE, "frames": picture.shape[1]}
                    for (title, waveform), picture in zip(sounds, pictures, strict=True)
                ],
            },
            [*(wav(waveform) for _, waveform in sounds), *(pixels(p, low, high) for p in pictures)],
        )


def _logmel(waveform: np.ndarray) -> np.ndarray:
    """`(S,)` -> `(64, T)`; very short sounds are padded to one frame's length."""
    padded = np.pad(waveform, (0, max(0, 1024 - len(waveform))))
    return LogMel()(torch.from_numpy(padded)[None])[0, 0].numpy()
