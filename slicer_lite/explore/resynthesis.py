"""From pictures back to sound: what a mixture, as the encoder receives it, sounds like.

Two log-mels can be mixed as power spectra, before they are standardised, or as they are in SLICER, after it (see
`slicer_lite.method.kmix.mix`, whose `scale` tells the two apart). The first is nearly what adding the sounds does;
the second is no sum of sounds at all, and can be heard only by building a sound that has the wanted spectrum.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchaudio.transforms import GriffinLim, InverseMelScale

from slicer_lite.base.randomness import seeded
from slicer_lite.config import F_MAX, F_MIN, HOP, N_FFT, N_MELS, SAMPLE_RATE
from slicer_lite.method.logmel import FLOOR, LogMel


def mix_waveforms(x: Tensor, z: Tensor, weight_of_z: float) -> Tensor:
    """Add two sounds such that their powers are shared 1 - a to a: gains `sqrt(1 - a)` and `sqrt(a)`.

    The log-mel of the sum is `kmix.mix` of the two log-mels, up to cross-terms: where both sounds have power at
    one frequency and moment, it depends on their phases whether the sum has more or less than the two powers.

    Shape: `(…, S)`, `(…, S)` -> `(…, S)`.
    """
    return (1 - weight_of_z) ** 0.5 * x + weight_of_z**0.5 * z


def scale_bands(waveform: Tensor, lms: Tensor, iterations: int = 5) -> Tensor:
    """Scale a sound, band by band and frame by frame, until its log-mel is the wanted one.

    Phases and fine structure stay the sound's own; only gains are applied, the same to all frequencies that a band
    alone covers. Where bands overlap, gains are found by the multiplicative updates of non-negative matrix
    factorisation under Kullback-Leibler divergence (Lee and Seung, 2000), which match the bands' powers. The
    frames are then overlapped and added, so that neighbours have to compromise. Frequencies that no band covers
    (below 60 Hz, above 7800 Hz) are silenced: the encoder does not receive them.

    Args:
        waveform: `(S,)` at 16 kHz.
        lms: `(64, T)` natural-log mel, not standardised, T = S // 160 + 1.
        iterations: updates of the gains.

    Raises:
        ValueError: the log-mel has not as many frames as the sound.
    """
    if lms.shape != (N_MELS, len(waveform) // HOP + 1):
        raise ValueError(
            f"A sound of {len(waveform)} samples has a log-mel of {N_MELS} x {len(waveform) // HOP + 1}, "
            f"got one of {tuple(lms.shape)}."
        )
    logmel = LogMel()
    window, bands = logmel.window, logmel.bands  # (1024,), (513, 64)
    spectrum = torch.stft(waveform, N_FFT, HOP, window=window, return_complex=True)  # (513, T)
    wanted = (lms.exp() - FLOOR).clamp(min=0)  # (64, T) power
    power = spectrum.abs().square().double().clamp(min=1e-12)
    covered = bands.sum(1, keepdim=True).double()  # (513, 1)
    weights = bands.double()
    scaled = torch.where(covered > 0, power, 0.0)
    for _ in range(iterations):
        ratio = wanted / (weights.T @ scaled).clamp(min=1e-12)  # (64, T)
        scaled *= (weights @ ratio) / covered.clamp(min=1e-12)
    gains = (scaled / power).sqrt().float()
    return torch.istft(spectrum * gains, N_FFT, HOP, window=window, length=len(waveform))


def invert(lms: Tensor, seed: int = 0) -> Tensor:
    """A sound with the wanted log-mel, made from nothing else: mel inversion, then Griffin-Lim.

    torchaudio's `InverseMelScale` (least squares) guesses the spectrum under the bands, its `GriffinLim` phases
    that fit (32 iterations from random phases). The result sounds metallic: 64 bands and no phases are far from
    enough to tell a sound.

    Shape: `(64, T)` natural-log mel, not standardised -> `((T - 1) * 160,)` samples at 16 kHz.
    """
    unmel = InverseMelScale(
        N_FFT // 2 + 1, N_MELS, SAMPLE_RATE, F_MIN, F_MAX, norm="slaney", mel_scale="slaney"
    )
    power = unmel((lms.exp() - FLOOR).clamp(min=0)[None])
    with seeded(seed):
        return GriffinLim(N_FFT, hop_length=HOP)(power)[0]


def miss_db(waveform: Tensor, lms: Tensor, depth: float = 40.0) -> float:
    """By how much a sound's own log-mel misses the wanted one: median over cells, in dB.

    Only cells within `depth` dB of the wanted picture's loudest count: fainter ones are masked for the ear.

    Shape: `(S,)` at 16 kHz, `(64, T)`.
    """
    actual = LogMel()(waveform[None])[0, 0]
    to_db = 10 / torch.log(torch.tensor(10.0))
    heard = lms > lms.max() - depth / to_db
    return (to_db * (actual - lms)[heard].abs().median()).item()
