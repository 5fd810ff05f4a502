"""Building blocks that all sounds share: noise, tones, resonances, envelopes, and the recording of it all.

A sound is made with two random generators. `source` decides what stands in front of the microphone (this
engine, this bird, this room); all clips of one recording share its draws. `take` decides what differs from
one clip of a recording to the next (which noise, which moment, how loud). Signals are 1-D float64 arrays at
`RATE`; `n` is always a number of samples.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

RATE = 16_000  # samples per second
TOP = 7_600.0  # Hz; no partial is made above this, so that none folds back

Signal = NDArray[np.float64]
Random = np.random.Generator


def log_uniform(rng: Random, low: float, high: float) -> float:
    """A number between `low` and `high` whose logarithm is uniform, as pitches and rates are heard."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def rms(x: Signal) -> float:
    """Root mean square; at least 1e-9, so that one may divide by it."""
    return max(float(np.sqrt(np.mean(x * x))), 1e-9)


def unit(x: Signal) -> Signal:
    """`x` scaled to an RMS of 1."""
    return x / rms(x)


def noise(rng: Random, n: int, slope: float = 0.0) -> Signal:
    """(n,) Gaussian noise of unit RMS whose power falls as frequency ** -slope (0 white, 1 pink, 2 brown)."""
    if slope == 0.0:
        return rng.standard_normal(n)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hertz = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 40.0)  # flat below 40 Hz: keeps rumble finite
    return unit(np.fft.irfft(spectrum * hertz ** (-slope / 2), n))


def wander(rng: Random, n: int, rate: float, low: float = -1.0, high: float = 1.0) -> Signal:
    """(n,) control curve: straight lines between random points in [low, high], `rate` of them a second."""
    points = max(2, int(np.ceil(n / RATE * rate)) + 2)
    where = (np.arange(points) - rng.uniform(0, 1)) * (RATE / rate)
    return np.interp(np.arange(n), where, rng.uniform(low, high, points))


def restless(rng: Random, n: int) -> Signal:
    """(n,) far-off background of unit RMS: noise of any colour that comes and goes, slowly or in flutters."""
    swing = wander(rng, n, log_uniform(rng, 2, 25), -1, 1) * rng.uniform(0, 12)  # dB
    return unit(noise(rng, n, rng.uniform(0.1, 2.0)) * 10 ** (swing / 20))


def resonate(x: Signal, hertz: float, bandwidth: float) -> Signal:
    """`x` through one two-pole resonance, with unit gain at its centre (all in Hz)."""
    radius = np.exp(-np.pi * bandwidth / RATE)
    angle = 2 * np.pi * hertz / RATE
    denominator = [1.0, -2 * radius * np.cos(angle), radius**2]
    at_centre = abs(np.polyval(denominator[::-1], np.exp(-1j * angle)))
    return signal.lfilter([at_centre], denominator, x)


def bank(x: Signal, resonances: Iterable[tuple[float, float]]) -> Signal:
    """`x` through several resonances (Hz, bandwidth) side by side, added up: a body, a mouth, a pipe."""
    return np.sum([resonate(x, hertz, bandwidth) for hertz, bandwidth in resonances], axis=0)


def low_pass(x: Signal, hertz: float) -> Signal:
    """`x` through a one-pole low-pass filter with its corner at `hertz`."""
    keep = np.exp(-2 * np.pi * hertz / RATE)
    return signal.lfilter([1 - keep], [1, -keep], x)


def tone(f0: Signal | float, amplitudes: NDArray, n: int, phase: float = 0.0) -> Signal:
    """(n,) harmonic tone: `amplitudes` (K,) or (K, n) of partials 1 .. K over `f0` in Hz, a number or (n,).

    Partials are made one from the last by a complex product, which costs far less than K sines.
    """
    hertz = np.broadcast_to(np.asarray(f0, dtype=float), (n,))
    turn = np.exp(2j * np.pi * (np.cumsum(hertz) / RATE + phase))
    partial, out = np.ones(n, dtype=complex), np.zeros(n)
    for amplitude in amplitudes[: int(TOP / hertz.max())]:
        partial = partial * turn
        out += amplitude * partial.imag
    return out


def decay(n: int, t60: float) -> Signal:
    """(n,) exponential that falls by 60 dB in `t60` seconds."""
    return np.exp(-6.908 * np.arange(n) / (t60 * RATE))


def ring(n: int, hertz: float, t60: float, phase: float = 0.0) -> Signal:
    """(n,) decaying sine that falls by 60 dB in `t60` seconds: the impulse response of a two-pole filter."""
    radius, angle = 10 ** (-3 / (t60 * RATE)), 2 * np.pi * hertz / RATE
    impulse = np.zeros(n)
    impulse[0] = 1.0
    numerator = [np.sin(phase), radius * np.sin(angle - phase)]
    return signal.lfilter(numerator, [1.0, -2 * radius * np.cos(angle), radius**2], impulse)


def fade(n: int, rise: float, fall: float) -> Signal:
    """(n,) envelope of 1 with raised-cosine ends of `rise` and `fall` seconds."""
    t = np.arange(n) / RATE
    up = np.clip(t / max(rise, 1e-4), 0, 1)
    down = np.clip((n / RATE - t) / max(fall, 1e-4), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * up)) * (0.5 - 0.5 * np.cos(np.pi * down))


def scatter(n: int, starts: NDArray, grains: NDArray) -> Signal:
    """(n,) sum of `grains` (G, L), each begun at its sample in `starts` (G,); what passes the end is cut."""
    out = np.zeros(n + grains.shape[1])
    np.add.at(out, starts[:, None] + np.arange(grains.shape[1]), grains)
    return out[:n]


def place(out: Signal, start: int, x: Signal) -> None:
    """Add `x` into `out` from sample `start` on; what passes the end is cut."""
    end = min(len(out), start + len(x))
    if start < end:
        out[start:end] += x[: end - start]


def beats(rng: Random, n: int, period: float, irregularity: float) -> NDArray[np.int64]:
    """Sample numbers of events about `period` seconds apart, the first within one period of the start."""
    count = int(n / RATE / period) + 2
    gaps = period * (1 + irregularity * rng.uniform(-1, 1, count))
    starts = (np.cumsum(gaps) - gaps[0] * rng.uniform(0.2, 1.0)) * RATE
    return starts[(starts >= 0) & (starts < n)].astype(np.int64)


def record(x: Signal, source: Random, take: Random, snr: tuple[float, float] = (8.0, 30.0)) -> Signal:
    """The sound as recorded: in a room, through a microphone, over background noise, at some level.

    Room (a decaying-noise echo) and microphone (a smooth random equaliser, +-9 dB) belong to the recording;
    the background's colour, its `snr` in dB and the level (RMS -34 to -16 dBFS) to the take. Because all of
    them are random, the mean spectrum of a clip says little about what it is a clip of.
    """
    # Children of the two generators: they do not depend on how often the sound itself has drawn.
    source, take = source.spawn(1)[0], take.spawn(1)[0]
    n = len(x)
    echo = source.standard_normal(int(0.3 * RATE)) * decay(int(0.3 * RATE), log_uniform(source, 0.08, 0.5))
    impulse = source.uniform(0.05, 0.5) * echo / np.sqrt(np.sum(echo**2))
    impulse[0] += 1.0
    size = fft.next_fast_len(n + len(impulse), real=True)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / RATE), 60.0) / 60.0)  # 0 .. 7
    microphone = 10 ** (np.interp(octaves, np.arange(8), source.uniform(-9, 9, 8)) / 20)
    x = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(impulse, size) * microphone, size)[:n]

    loudness, ratio = take.uniform(-34, -16), take.uniform(*snr)  # dBFS, dB
    colour = 2.0 ** (-octaves * take.uniform(-0.3, 1.1))
    bumps = 10 ** (np.interp(octaves, np.arange(8), take.uniform(-6, 6, 8)) / 20)
    hiss = np.fft.rfft(take.standard_normal(n), size)
    background = unit(np.fft.irfft(hiss * colour * bumps, size)[:n])
    x = unit(unit(x) + background * 10 ** (-ratio / 20)) * 10 ** (loudness / 20)
    return x * min(1.0, 0.97 / np.abs(x).max())
