"""Listen to k-mix: a clip, its partner, and the mixture that the encoder receives."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import normalize

from slicer_lite.audio.store import Clips, load_clips
from slicer_lite.explore import figures
from slicer_lite.explore.resynthesis import invert, miss_db, mix_waveforms, scale_bands
from slicer_lite.method.kmix import KMix, mix
from slicer_lite.method.logmel import LogMel
from slicer_lite.widgets.common import Widget, front_end, pixels, wav

MOST = 4096  # clips: each is a line of two menus
RULES = ("farthest", "random", "nearest")
DOMAINS = ("power", "standardised")


class Audition(Widget):
    """Choose a clip and a partner, mix them, and see and hear what comes out.

    The clips stand for k-mix's memory: a partner is drawn from the farthest cluster that has a member among them.
    Everything can also be done from Python: `audition.ratio = 0.2`, `audition.draw("farthest")`.

    Mixing is shown in both domains (see `slicer_lite.method.kmix.mix`), and each sound says what it is:

    - `power`, before standardising: the mixture is, up to cross-terms, the sum of the waveforms with gains
      `sqrt(1 - a)` and `sqrt(a)`, and that sum is what you hear;
    - `standardised`, SLICER's order: no sum of sounds has this log-mel. You hear the sum scaled band by band to it,
      or a sound made from the log-mel alone (`slicer_lite.explore.resynthesis`).

    Only the first 0.95 s of each clip take part, which is what the encoder sees at once.

    Args:
        clips: up to 4,096 clips; anything that `load_clips` takes.
        centroids: `(K, 64)` of k-mix, see `slicer_lite.method.kmix.fit_centroids`.
        mean, deviation: of the pre-training set's log-mels, by which they are standardised.
        names: `(N,)` what to call the clips; by default their labels.
        clip: number of the clip to begin with.
        seed: of the draws.

    Raises:
        ValueError: fewer than two clips or more than 4,096, or names that are not one for each clip.
    """

    _esm = front_end("audition.js")

    clip = traitlets.Int(help="number of the clip").tag(sync=True)
    partner = traitlets.Int(help="number of its partner").tag(sync=True)
    ratio = traitlets.Float(0.4, min=0, max=1, help="a, the partner's share").tag(sync=True)
    domain = traitlets.Enum(DOMAINS, "standardised", help="what is mixed").tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    clusters = traitlets.List(traitlets.Int(), help="of each clip").tag(sync=True)
    shown = traitlets.Dict(help="pictures, sounds and what they are").tag(sync=True)

    def __init__(
        self,
        clips: Clips | Sequence[np.ndarray],
        centroids: Tensor,
        mean: float,
        deviation: float,
        names: Sequence[str] | None = None,
        clip: int = 0,
        seed: int = 0,
    ):
        clips = load_clips(clips)
        if not 2 <= len(clips) <= MOST:
            raise ValueError(
                f"An audition takes 2 to {MOST:,} clips, got {len(clips):,}: choose some by `subset`."
            )
        names = _names(clips) if names is None else [str(name) for name in names]
        if len(names) != len(clips):
            raise ValueError(f"There are {len(clips)} clips, but {len(names)} names.")
        self._deviation = float(deviation)
        self._waveforms = clips.windows(np.arange(len(clips)), np.zeros(len(clips), int)).float() / 32768
        self._lms = LogMel()(self._waveforms)  # (N, 1, 64, T)
        self._inputs = (self._lms - float(mean)) / self._deviation
        self._spectra = normalize(self._inputs.mean(-1).flatten(1), dim=1)  # (N, 64), what is clustered
        self._mixer = KMix(centroids, memory=len(clips))
        self._mixer.push(self._inputs)
        self._draws = torch.Generator().manual_seed(seed)
        super().__init__(names=names, clusters=self._mixer.memory_cluster.tolist(), clip=clip)
        self.draw("farthest")
        self._show()
        self.observe(lambda _: self.attempt(self._show), ["clip", "partner", "ratio", "domain"])

    def draw(self, rule: str) -> None:
        """Find a partner for the clip.

        Args:
            rule: `farthest`, by k-mix, from the farthest cluster; `random`, as in plain mixup, any other clip;
                `nearest`, the clip whose average spectrum is most like this one's.
        """
        chance = torch.rand(1, generator=self._draws)
        if rule == "farthest":
            self.partner = int(self._mixer.partners(self._inputs[self.clip][None], chance))
        elif rule == "random":
            self.partner = (self.clip + 1 + int(chance * (len(self.names) - 1))) % len(self.names)
        elif rule == "nearest":
            likeness = self._spectra @ self._spectra[self.clip]  # (N,) cosines
            likeness[self.clip] = -2  # not itself
            self.partner = int(likeness.argmax())
        else:
            raise ValueError(f"There is no rule {rule!r}: there are {', '.join(RULES)}.")

    def receive(self, message: dict[str, Any], buffers: list[Any]) -> None:
        if message["kind"] == "draw":
            self.draw(message["rule"])

    def picture(self) -> Figure:
        """The three log-mels, of the clip, its partner and the mixture."""
        pictures = [lms.numpy() for lms in self._three()]
        titles = [textwrap.fill(title, 32) for title in self.shown["titles"]]
        return figures.logmel_grid(pictures, titles, 3, "log-mel (nats)")

    def _three(self) -> list[Tensor]:
        """The log-mels of clip, partner and mixture, not standardised: `(64, T)` each."""
        x, z = self._lms[self.clip], self._lms[self.partner]
        scale = 1.0 if self.domain == "power" else 1 / self._deviation
        return [x[0], z[0], mix(x, z, torch.tensor([self.ratio]), scale)[0]]

    def _mixtures(self, lms: Tensor) -> list[tuple[str, Tensor]]:
        """The sounds that stand for a mixture `(64, T)`, and what each of them is."""
        x, z = self._waveforms[self.clip], self._waveforms[self.partner]
        added = mix_waveforms(x, z, self.ratio)
        if self.domain == "power":
            return [(f"the waveforms added, with gains √{1 - self.ratio:.2f} and √{self.ratio:.2f}", added)]
        return [
            ("the added waveforms, scaled band by band to the picture", scale_bands(added, lms)),
            ("made from the picture alone: mel inversion, then Griffin-Lim", invert(lms)),
        ]

    def _show(self) -> None:
        """Compute pictures and sounds of the present choice."""
        lms = self._three()
        sounds = [("as recorded", self._waveforms[i], "") for i in (self.clip, self.partner)]
        for label, sound in self._mixtures(lms[2]):
            sounds.append(
                (label, sound, f"its log-mel misses the picture by {miss_db(sound, lms[2]):.1f} dB (median)")
            )
        # At their true levels; if one would be clipped, all are turned down alike.
        peak = max(1.0, *(sound.abs().max().item() for _, sound, _ in sounds))
        level = (
            f" All sounds are played {20 * np.log10(peak):.1f} dB softer than they are." if peak > 1 else ""
        )
        low, high = (torch.stack(lms[:2]).flatten().quantile(q).item() for q in (0.01, 1.0))
        mine, other = self.clusters[self.clip], self.clusters[self.partner]
        order = ", ".join(str(k) for k in self._mixer.partner_order[mine].tolist() if k != mine)
        cosine = (self._spectra[self.clip] @ self._spectra[self.partner]).item()
        self.shown = {
            "titles": [
                f"clip: {self.names[self.clip]}",
                f"partner: {self.names[self.partner]}",
                f"mixture, a = {self.ratio:.2f}",
            ],
            "size": list(lms[0].shape[::-1]),
            "pictures": [pixels(picture.numpy(), low, high) for picture in lms],
            "sounds": [
                {"label": label, "note": note, "wav": wav(sound.numpy() / peak)}
                for label, sound, note in sounds
            ],
            "about": f"The clip is in cluster {mine}, its partner in {other}; farthest from {mine} are, in this "
            f"order, {order}. The cosine of their average spectra is {cosine:+z.2f}.{level}",
        }

    @traitlets.validate("clip", "partner")
    def _a_clip(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < len(self._waveforms):
            raise traitlets.TraitError(
                f"There is no clip {proposal['value']}: they are numbered 0 to {len(self._waveforms) - 1}."
            )
        return int(proposal["value"])


def _names(clips: Clips) -> list[str]:
    """What the clips are called where nothing else is said: number and labels."""
    labels = [clips.labels(task) for task in clips.tasks]
    return [", ".join([f"{i}", *(of_task[i] for of_task in labels if of_task[i])]) for i in range(len(clips))]
