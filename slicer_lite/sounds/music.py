"""Instruments: plucked, struck, blown and bowed, all over the same range of pitches.

Each function takes the pitch in Hz, the number of samples, and the two generators (see `synthesis`): `source`
draws the instrument's body, `take` how it is played this time. What tells them apart is how a note begins,
lives and dies (and which partials it has), not where its energy lies: body and microphone are random.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from slicer_lite.sounds.synthesis import (
    RATE,
    TOP,
    Random,
    Signal,
    bank,
    decay,
    fade,
    log_uniform,
    noise,
    place,
    record,
    resonate,
    ring,
    rms,
    tone,
    unit,
    wander,
)

LOWEST, HIGHEST = 48, 83  # MIDI note numbers: 131 to 988 Hz


def pitch(note: int) -> float:
    """Hz of a MIDI note number: 69 is 440 Hz."""
    return float(440 * 2 ** ((note - 69) / 12))


def _modes(hertz: NDArray, gains: NDArray, t60: NDArray, n: int, take: Random) -> Signal:
    """(n,) sum of decaying sines: what a struck or plucked body does."""
    out = np.zeros(n)
    for f, g, t in zip(hertz, gains, t60, strict=True):
        if f < TOP:
            out += g * ring(n, f, t, take.uniform(0, 2 * np.pi))
    return out


def _body(source: Random, partials: int, slope: float) -> NDArray:
    """(partials,) gains that fall as k ** -slope, each up to 5 dB off: no two bodies are alike."""
    k = np.arange(1, partials + 1)
    return k**-slope * 10 ** (source.uniform(-5, 5, partials) / 20)


def pluck(hertz: float, n: int, source: Random, take: Random) -> Signal:
    """A string plucked: Karplus and Strong's loop, a burst of noise that travels round a delay line."""
    period = RATE / hertz
    dull = source.uniform(0.05, 0.25)
    whole = int(period - 1)
    between = period - 1 - whole
    # Once round the loop: a little low-pass filter (one sample of delay), then the fraction of a sample.
    loop = np.convolve([dull, 1 - 2 * dull, dull], [1 - between, between])
    loop *= 10 ** (-3 / (hertz * log_uniform(source, 0.4, 1.0)))  # falls by 60 dB in that many seconds
    burst = noise(take, whole)
    excitation = np.zeros(n)
    excitation[:whole] = burst - np.roll(burst, int(whole * source.uniform(0.1, 0.4)))
    return signal.lfilter([1.0], np.concatenate([[1.0], np.zeros(whole - 1), -loop]), excitation)


def piano(hertz: float, n: int, source: Random, take: Random) -> Signal:
    """A hammered string: slightly stretched partials in beating pairs, and the hammer's knock."""
    k = np.arange(1, 25)
    stretched = k * hertz * np.sqrt(1 + source.uniform(2e-4, 9e-4) * k**2)
    gains = _body(source, 24, 1.1)
    t60 = source.uniform(2.0, 3.5) / (1 + 0.12 * k)
    detune = 1 + source.uniform(0.6, 1.6) / hertz * source.uniform(0.5, 1.5, 24)
    both = _modes(
        np.concatenate([stretched, stretched * detune]),
        np.concatenate([gains, 0.8 * gains]),
        np.concatenate([t60, 1.5 * t60]),
        n,
        take,
    )
    knock = resonate(noise(take, n), source.uniform(150, 500), 200) * decay(n, 0.06)
    return both * fade(n, 0.004, 0.0) + 0.4 * rms(both) * knock / np.abs(knock).max()


def bell(hertz: float, n: int, source: Random, take: Random) -> Signal:
    """A bell: inharmonic modes that ring long and beat."""
    ratios = np.array([0.5, 1.0, 1.19, 1.56, 2.0, 2.66, 3.01, 4.1, 5.43, 6.79])
    ratios = ratios * source.uniform(0.985, 1.015, len(ratios))
    gains = 10 ** (source.uniform(-12, 0, len(ratios)) / 20) * ratios**-0.3
    t60 = source.uniform(2.5, 5.0) / ratios**0.6
    doublet = 1 + source.uniform(0.001, 0.006, len(ratios))
    return _modes(
        hertz * np.concatenate([ratios, ratios * doublet]),
        np.concatenate([gains, 0.7 * gains]),
        np.concatenate([t60, t60]),
        n,
        take,
    )


def marimba(hertz: float, n: int, source: Random, take: Random) -> Signal:
    """A wooden bar: few modes, far apart, gone at once; played as a short roll."""
    ratios = np.array([1.0, 3.93, 9.6]) * source.uniform(0.98, 1.02, 3)
    gains = np.array([1.0, 0.5, 0.3]) * 10 ** (source.uniform(-6, 6, 3) / 20)
    t60 = np.array([0.45, 0.16, 0.08]) * source.uniform(0.7, 1.4)
    out, start, gap = np.zeros(n), 0, source.uniform(0.2, 0.45)
    while start < n:
        length = min(n - start, int(0.6 * RATE))
        place(out, start, take.uniform(0.6, 1.0) * _modes(hertz * ratios, gains, t60, length, take))
        start += int(gap * take.uniform(0.9, 1.1) * RATE)
    return out


def flute(hertz: float, n: int, source: Random, take: Random) -> Signal:
    """A jet of air over an edge: few partials, breath around them, slow vibrato in loudness."""
    rate, depth = source.uniform(4.2, 6.0), source.uniform(0.15, 0.4)
    swing = np.sin(2 * np.pi * (rate * np.arange(n) / RATE + take.uniform()))
    f0 = hertz * (1 + 0.004 * swing + 0.002 * wander(take, n, 12))
    gains = _body(source, 5, 1.8)
    steady = tone(f0, gains, n) * (1 + depth * swing)
    air = noise(take, n)
    breath = unit(bank(air, [(k * hertz, 0.25 * hertz) for k in (1, 2, 3)])) + 0.5 * air
    return (steady + source.uniform(0.15, 0.4) * rms(steady) * breath) * fade(n, 0.09, 0.08)


def clarinet(hertz: float, n: int, source: Random, take: Random) -> Signal:
    """A reed on a closed tube: odd partials, steady, no vibrato."""
    gains = _body(source, 24, 0.7)
    gains[1::2] *= 0.06
    f0 = hertz * (1 + 0.0015 * wander(take, n, 8))
    steady = tone(f0, gains, n)
    return (steady + 0.02 * rms(steady) * noise(take, n)) * fade(n, 0.04, 0.06)


def brass(hertz: float, n: int, source: Random, take: Random) -> Signal:
    """Lips on a horn: the louder the brighter, so each tongued note opens up from dull to bright."""
    out = np.zeros(n)
    start, length = 0, int(source.uniform(0.32, 0.55) * RATE)
    k = np.arange(1, 25)[:, None]
    body = _body(source, 24, 0.2)[:, None]
    while start < n:
        m = length
        t = np.arange(m) / m
        loud = np.clip(t / 0.3, 0, 1) ** 0.7 * (1 - 0.35 * t) * fade(m, 0.03, 0.05)
        bright = body * np.exp(-k / (0.7 + 7 * loud**2))
        f0 = hertz * (1 - 0.06 * np.exp(-t * m / RATE / 0.035))  # slides up into the note
        place(out, start, loud * tone(f0, bright, m))
        start += int(length * take.uniform(0.98, 1.05))
    return out


def violin(hertz: float, n: int, source: Random, take: Random) -> Signal:
    """A bowed string: all partials with vibrato in pitch, which the body's resonances turn into shimmer."""
    rate, depth = source.uniform(5.0, 7.0), source.uniform(0.016, 0.03)
    swing = np.sin(2 * np.pi * (rate * np.arange(n) / RATE + take.uniform()))
    f0 = hertz * (1 + depth * swing + 0.003 * wander(take, n, 40))
    string = tone(f0, _body(source, 30, 0.8), n)
    string += 0.05 * rms(string) * noise(take, n) * (1 + 0.5 * wander(take, n, 30))
    wood = bank(string, [(log_uniform(source, 280, 4500), 90) for _ in range(8)])
    return (string + 1.5 * wood) * fade(n, 0.1, 0.08)


INSTRUMENTS = {
    "bell": bell,
    "brass": brass,
    "clarinet": clarinet,
    "flute": flute,
    "marimba": marimba,
    "piano": piano,
    "pluck": pluck,
    "violin": violin,
}


def instrument(label: str, note: int, n: int, source: Random, take: Random) -> Signal:
    """(n,) one instrument playing one note, recorded."""
    return record(unit(INSTRUMENTS[label](pitch(note), n, source, take)), source, take)
