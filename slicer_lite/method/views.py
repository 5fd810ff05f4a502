"""From a batch of waveforms to two views: log-mel -> standardise -> k-mix -> crop, all on one device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from slicer_lite.audio.store import Clips
from slicer_lite.base import distributed
from slicer_lite.base.device import in_double
from slicer_lite.base.randomness import generator
from slicer_lite.base.shapes import Float, Int
from slicer_lite.config import WINDOW, Config
from slicer_lite.method.crop import RandomResizeCrop
from slicer_lite.method.kmix import KMix, fit_centroids, single_centroid
from slicer_lite.method.logmel import LogMel

_MEASURED = 20_000  # clips at most from which mean and deviation are computed [ours]
_CLUSTERED = 0.05, 2000  # share of the clips, and least number, that k-means clusters [R][ours]


class ViewDraws(NamedTuple):
    """What chance decides about one view of B clips: a field for each augmentation.

    A new augmentation is a class beside `RandomResizeCrop` and a field here, which `TwoViews.draw` fills after those
    before it, so that their numbers stay the same, and `TwoViews._view` hands to it.
    """

    mixing: Tensor  # (B, 2) from U[0, 1): partner and ratio
    boxes: Tensor  # (B, 4) of the crop


class Draws(NamedTuple):
    """What chance decides about two views of B clips."""

    view1: ViewDraws
    view2: ViewDraws


class TwoViews(nn.Module):
    """Turns each clip into two views drawn independently of each other [P], [R].

    Args:
        config: mixing and crop settings.
        mean, deviation: of the pre-training set's log-mels.
        centroids: `(K, 64)` for k-mix; ignored by other kinds of mixing.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: Config, mean: float, deviation: float, centroids: Tensor | None = None):
        super().__init__()
        self.logmel = LogMel()
        self.crop = RandomResizeCrop(config.crop_min, config.crop_max)
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("deviation", torch.tensor(float(deviation)))
        self.mixer: KMix | None = None
        if config.mixing != "none":
            top_k = config.mix_top_k
            if config.mixing == "mixup":
                centroids, top_k = single_centroid(), config.mix_memory  # the partner is any of the memory
            if centroids is None:
                raise ValueError(
                    "k-mix needs centroids: fit them with slicer_lite.method.kmix.fit_centroids."
                )
            scale = deviation if config.mix_before_standardising else 1.0
            self.mixer = KMix(centroids, config.mix_memory, config.mix_ratio, top_k, scale)

    @torch.no_grad()
    def inputs(self, waveform: Float[Tensor, "B S"] | Int[Tensor, "B S"]) -> Float[Tensor, "B 1 64 T"]:
        """Waveform windows, int16 or float in [-1, 1], to standardised log-mels: `(B, S)` -> `(B, 1, 64, T)`."""
        if waveform.dtype == torch.int16:
            waveform = waveform.float() / 32768
        return (self.logmel(waveform) - self.mean) / self.deviation

    def draw(self, count: int, seed: int, step: int) -> Draws:
        """What chance decides about the two views of a step's `count` clips (of all processes), on the CPU."""

        def view(name: str) -> ViewDraws:
            chance = generator(seed, step, name)
            mixing, boxes = torch.rand(count, 2, generator=chance), self.crop.boxes(count, chance)
            return ViewDraws(distributed.mine(mixing), distributed.mine(boxes))

        return Draws(view("view 1"), view("view 2"))

    def forward(
        self,
        inputs: Float[Tensor, "B 1 F T"],
        seed: int,
        step: int,
        second: Float[Tensor, "B 1 F T"] | None = None,
    ) -> tuple[Float[Tensor, "B 1 F T"], Float[Tensor, "B 1 F T"]]:
        """Two views of each standardised input: `(B, 1, F, T)` -> two of the same shape.

        Both views draw partners from the memory as it was before this batch, which then enters once [ours].

        Args:
            second: inputs for view 2, `(B, 1, F, T)`, where it is of another window of the clips
                (`config.two_windows`); the first windows enter the memory.
        """
        return self.drawn(inputs, self.draw(len(inputs) * distributed.size(), seed, step), second)

    @torch.no_grad()
    def drawn(
        self, inputs: Float[Tensor, "B 1 F T"], draws: Draws, second: Float[Tensor, "B 1 F T"] | None = None
    ) -> tuple[Float[Tensor, "B 1 F T"], Float[Tensor, "B 1 F T"]]:
        """`forward` with draws that are made already."""
        view1 = self._view(inputs, draws.view1)
        view2 = self._view(inputs if second is None else second, draws.view2)
        if self.mixer is not None:
            self.mixer.push(distributed.gather(inputs))
        return view1, view2

    def _view(self, inputs: Tensor, draws: ViewDraws) -> Tensor:
        mixed = self.mixer(inputs, draws=draws.mixing) if self.mixer is not None else inputs
        return self.crop.apply(mixed, draws.boxes)


@torch.no_grad()
def fit_views(config: Config, clips: Clips, device: torch.device) -> TwoViews:
    """Measure what the views need, once before training, on random windows of the clips.

    One mean and one deviation of all log-mels [B], and k-mix's centroids of standardised time averages [R].

    Raises:
        ValueError: the clips are all alike (silence), or fewer than k-mix's centroids.
    """
    draws = generator(config.seed, 0, "statistics")
    chosen = torch.randperm(len(clips), generator=draws)[:_MEASURED]
    starts = random_starts(clips, chosen, draws)
    logmel = LogMel().to(device)
    time_means, squares = [], []
    for batch in torch.arange(len(chosen)).split(512):
        waveform = clips.windows(chosen[batch].numpy(), starts[batch].numpy())
        lms = in_double(logmel(waveform.to(device).float() / 32768))
        time_means.append(lms.mean(-1).flatten(1))  # (B, F)
        squares.append(lms.square().mean((1, 2, 3)))  # (B,)
    time_mean = torch.cat(time_means)  # (N, F)
    mean = time_mean.mean().item()
    deviation = max(torch.cat(squares).mean().item() - mean**2, 0.0) ** 0.5
    if deviation < 1e-3:
        raise ValueError(
            "All clips sound alike: their log-mels have no deviation. Are the recordings silent?"
        )
    share, least = _CLUSTERED
    points = ((time_mean - mean) / deviation)[: max(int(share * len(clips)), least)].float()
    centroids = (
        fit_centroids(points, config.mix_centroids, seed=config.seed) if config.mixing == "kmix" else None
    )
    return TwoViews(config, mean, deviation, centroids).to(device)


def random_starts(clips: Clips, chosen: Int[Tensor, " B"], draws: torch.Generator) -> Int[Tensor, " B"]:
    """A random window's start, in samples, within each chosen clip: `(B,)` -> `(B,)`."""
    # Of these clips alone: what a step costs must not grow with the number of all.
    room = torch.from_numpy(clips.lengths[chosen.numpy()] - WINDOW).clamp(min=0)
    return (torch.rand(len(chosen), generator=draws, dtype=torch.float64) * (room + 1)).long()
