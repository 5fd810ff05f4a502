"""Eight sounds of a street, over the street's own noise."""

import numpy as np

from slicer_lite.sounds.synthesis import (
    RATE,
    Random,
    Signal,
    bank,
    beats,
    decay,
    fade,
    log_uniform,
    low_pass,
    noise,
    place,
    record,
    resonate,
    restless,
    rms,
    tone,
    unit,
    wander,
)
from slicer_lite.sounds.voice import EMOTIONS, LANGUAGES, WORDS, Speaker, speak


def _children(n: int, source: Random, take: Random) -> Signal:
    """Two or three high voices calling over each other."""
    out = np.zeros(n)
    for _ in range(source.integers(2, 4)):
        child = Speaker(
            pitch=log_uniform(source, 300, 420),
            tract=source.uniform(1.25, 1.45),
            second=source.uniform(0.95, 1.05),
            tilt=-4.0,
            vibrato_depth=source.uniform(0.0, 0.6),
            sibilant=1.15,
            pace=0.9,
        )
        start = -int(take.uniform(0, 0.4) * RATE)
        while start < n:
            mood = EMOTIONS[str(take.choice(["happy", "angry"]))]
            tongue = LANGUAGES[str(take.choice(list(LANGUAGES)))]
            call = speak(str(take.choice(WORDS)), child, mood, tongue, take)
            place(out, max(start, 0), call[max(-start, 0) :] * take.uniform(0.5, 1.0))
            start += len(call) + int(take.uniform(0.0, 0.1) * RATE)
    return out


def _dog_bark(n: int, source: Random, take: Random) -> Signal:
    """Barks: a short harsh voice whose pitch jumps up and falls."""
    out, pitch = np.zeros(n), log_uniform(source, 250, 700)
    mouth = [(log_uniform(source, 500, 900), 150), (log_uniform(source, 1100, 2200), 250), (3500, 500)]
    length = int(source.uniform(0.11, 0.2) * RATE)
    t = np.linspace(0, 1, length)
    for start in beats(take, n, source.uniform(0.28, 0.5), 0.2):
        f0 = pitch * take.uniform(0.93, 1.07) * (0.75 + 0.5 * np.sin(np.pi * np.sqrt(t)))
        f0 = f0 * (1 + 0.04 * wander(take, length, 200))
        throat = tone(f0, np.arange(1, 25.0) ** -0.5, length)
        throat += 0.6 * rms(throat) * noise(take, length)
        bark = bank(throat, mouth)
        place(out, int(start), bark * fade(length, 0.012, 0.09) * take.uniform(0.7, 1.0))
    return out


def _drilling(n: int, source: Random, take: Random) -> Signal:
    """An electric drill: a motor's whine that bends under load, and grinding."""
    load = low_pass(wander(take, n, 3, 0, 1), 10.0)
    f0 = log_uniform(source, 120, 300) * (1 - 0.3 * load)
    whine = tone(f0, 10 ** (source.uniform(-12, 6, 30) / 20), n)
    grit = noise(take, n) * (0.3 + load) * (1 + 0.8 * np.sin(2 * np.pi * np.cumsum(f0 / 4) / RATE))
    return unit(whine) + source.uniform(0.3, 0.8) * unit(grit)


def _engine(n: int, source: Random, take: Random) -> Signal:
    """An engine: explosions 18 to 45 times a second, uneven between cylinders, as the speed drifts."""
    rate = log_uniform(source, 18, 45) * (1 + 0.2 * low_pass(wander(take, n, 2), 5.0))
    turn = np.cumsum(rate) / RATE + take.uniform()
    cylinder = source.uniform(0.5, 1.0, 4)[(turn % 4).astype(int)]
    stroke = np.exp(-(turn % 1) * source.uniform(5, 10)) * cylinder
    pipes = ((70, 160, 40), (180, 400, 80), (500, 1200, 200))
    exhaust = bank(
        stroke - stroke.mean(), [(log_uniform(source, low, high), width) for low, high, width in pipes]
    )
    clatter = noise(take, n) * stroke
    return unit(exhaust) + source.uniform(0.2, 0.6) * unit(clatter)


def _gun_shot(n: int, source: Random, take: Random) -> Signal:
    """Shots: a bang in one sample, a dull tail, and an echo off a wall."""
    out, length = np.zeros(n), int(0.45 * RATE)
    crack, boom = source.uniform(0.02, 0.06), source.uniform(0.25, 0.6)
    wall, reply = int(source.uniform(0.07, 0.16) * RATE), source.uniform(0.15, 0.4)
    corner = log_uniform(source, 200, 700)
    for start in beats(take, n, source.uniform(0.4, 0.65), 0.35):
        burst = noise(take, length)
        bang = burst * decay(length, crack) * 2.0 + unit(low_pass(burst, corner)) * decay(length, boom)
        place(out, int(start), bang)
        place(out, int(start) + wall, reply * low_pass(bang, 1500))
    return out


def _horn(n: int, source: Random, take: Random) -> Signal:
    """A car's horn: two notes a third apart, bright, level, on and off."""
    low = log_uniform(source, 280, 480)
    third = source.choice([1.19, 1.26])
    gains = 10 ** (source.uniform(-8, 4, 20) / 20)
    chord = tone(low, gains, n) + tone(low * third, gains, n, 0.3)
    out, usual, gap = np.zeros(n), source.uniform(0.25, 0.7), source.uniform(0.1, 0.25)
    start = -take.uniform(0, 0.3)
    while start < n / RATE:
        length = usual * take.uniform(0.7, 1.3)
        begin, end = int(max(start, 0) * RATE), int(min(start + length, n / RATE) * RATE)
        if end - begin > 800:
            out[begin:end] = chord[begin:end] * fade(end - begin, 0.012, 0.02)
        start += length + gap
    return out


def _jackhammer(n: int, source: Random, take: Random) -> Signal:
    """A jackhammer: blows 10 to 20 times a second, metal on stone, each a burst and a ring."""
    blow = np.zeros(n)
    for start in beats(take, n, 1 / source.uniform(10, 20), 0.06):
        blow[start] = take.uniform(0.7, 1.0)
    grit = np.convolve(blow, take.standard_normal(500) * decay(500, 0.03))[:n]
    modes = [(log_uniform(source, 300, 4500), source.uniform(60, 250)) for _ in range(3)]
    return unit(grit) + sum(0.6 * unit(resonate(grit, hertz, width)) for hertz, width in modes)


def _siren(n: int, source: Random, take: Random) -> Signal:
    """A siren: sweeps between two pitches, slowly (wail) or fast (yelp), or leaps (two-tone)."""
    low = log_uniform(source, 450, 800)
    high = low * source.uniform(1.5, 2.2)
    kind = source.integers(3)
    period = (source.uniform(0.9, 1.6), source.uniform(0.25, 0.45), source.uniform(0.6, 0.9))[kind]
    phase = (np.arange(n) / RATE / period + take.uniform()) % 1.0
    leap = low_pass(np.where(phase < 0.5, 1.0, 0.0), 30.0)
    up = leap if kind == 2 else np.minimum(2 * phase, 2 - 2 * phase)
    gains = 10 ** (source.uniform(-15, 0, 8) / 20)
    gains[0] = 1.0
    return tone(low * (high / low) ** up, gains, n)


URBAN = {
    "children": _children,
    "dog_bark": _dog_bark,
    "drilling": _drilling,
    "engine": _engine,
    "gun_shot": _gun_shot,
    "horn": _horn,
    "jackhammer": _jackhammer,
    "siren": _siren,
}


def urban(label: str, n: int, source: Random, take: Random) -> Signal:
    """(n,) an urban sound, with traffic behind it."""
    sound = unit(URBAN[label](n, source, take)) + source.uniform(0.1, 0.6) * restless(take, n)
    return record(sound, source, take, snr=(5.0, 22.0))
