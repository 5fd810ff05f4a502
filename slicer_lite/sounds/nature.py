"""Birds and what is mistaken for them, and seven scenes.

Birds: "bird" and "other" share backgrounds and the band from 1.5 to 6 kHz; what makes the bird is that its
voice sweeps fast and comes in phrases. Scenes are textures: nothing in them is one event, and what tells them
apart is the grain (ticks, clicks, bubbles), the swell, the rhythm.
"""

import numpy as np

from slicer_lite.sounds.synthesis import (
    RATE,
    Random,
    Signal,
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
    ring,
    rms,
    scatter,
    tone,
    unit,
    wander,
)
from slicer_lite.sounds.voice import EMOTIONS, GUESTS, LANGUAGES, SPEAKERS, WORDS, speak

# --- birds and others -------------------------------------------------------------------------------------


def _bird(n: int, source: Random, take: Random) -> Signal:
    """A bird: each note sweeps fast."""
    return _phrases(n, source, take, octaves=(0.5, 1.3))


def _toy(n: int, source: Random, take: Random) -> Signal:
    """A toy, a telephone, a lorry that reverses: the same phrases, but the notes are level."""
    return _phrases(n, source, take, octaves=(0.0, 0.06))


def _scrape(n: int, source: Random, take: Random) -> Signal:
    """A broom, a brush, a spray: the same phrases, but of noise."""
    return _phrases(n, source, take, octaves=(0.0, 0.3)) * low_pass(noise(take, n), 250.0)


def _phrases(n: int, source: Random, take: Random, octaves: tuple[float, float]) -> Signal:
    """(n,) two or three kinds of note in turn, each a few times; each sweeps over some `octaves`."""
    out = np.zeros(n)
    centre, gap = log_uniform(source, 2000, 4800), source.uniform(0.015, 0.06)
    notes = []
    for _ in range(source.integers(2, 4)):
        shape = source.uniform(size=source.integers(2, 5))
        shape = (shape - shape.min()) / np.ptp(shape) - 0.5  # up and down over all of -0.5 .. 0.5
        octave = shape * source.uniform(*octaves) + source.uniform(-0.3, 0.3)
        notes.append((octave, source.uniform(0.035, 0.12), int(source.integers(1, 6))))
    start, turn = take.uniform(0, 0.15), int(take.integers(len(notes)))
    while start < n / RATE:
        octave, length, repeats = notes[turn % len(notes)]
        for _ in range(repeats):
            m = int(length * take.uniform(0.9, 1.1) * RATE)
            curve = np.interp(np.linspace(0, 1, m), np.linspace(0, 1, len(octave)), octave)
            hertz = np.clip(centre * 2 ** (curve + take.uniform(-0.03, 0.03)), 900, 7400)
            note = tone(hertz, np.array([1.0, 0.12]), m) * fade(m, 0.2 * length, 0.3 * length)
            place(out, int(start * RATE), note * take.uniform(0.5, 1.0))
            start += length + gap
        start += take.uniform(0.02, 0.12)
        turn += 1
    return out


def _cricket(n: int, source: Random, take: Random) -> Signal:
    """A steady high tone cut into pulses, the pulses into chirps."""
    t = np.arange(n) / RATE + take.uniform()
    fast = np.clip(np.sin(2 * np.pi * source.uniform(25, 60) * t), 0, 1)
    slow = np.clip(np.sin(2 * np.pi * source.uniform(2, 5) * t) + source.uniform(-0.2, 0.6), 0, 1)
    return tone(log_uniform(source, 2000, 5500), np.array([1.0, 0.1]), n) * fast * slow


def _frog(n: int, source: Random, take: Random) -> Signal:
    """Croaks: trains of damped pulses."""
    pulse = resonate(noise(take, 800) * decay(800, 0.012), log_uniform(source, 1500, 3500), 300)
    out, gap, pulses = np.zeros(n), RATE / source.uniform(35, 90), int(source.integers(5, 14))
    for start in beats(take, n, source.uniform(0.25, 0.5), 0.15):
        for k in range(pulses):
            place(out, int(start + k * gap), pulse * min(1.0, 0.3 + 0.2 * k))
    return out


def _insect(n: int, source: Random, take: Random) -> Signal:
    """Buzzing noise in a narrow band, or a rattle."""
    hertz = log_uniform(source, 1800, 5500)
    buzz = resonate(noise(take, n), hertz, source.uniform(0.08, 0.3) * hertz)
    t = np.arange(n) / RATE + take.uniform()
    flutter = 0.5 - 0.5 * np.cos(2 * np.pi * source.uniform(8, 45) * t)
    return buzz * flutter ** source.uniform(0.5, 3)


def _squeak(n: int, source: Random, take: Random) -> Signal:
    """A hinge or a wheel: a harmonic squeal that drifts slowly."""
    f0 = log_uniform(source, 700, 1600) * 2 ** (0.15 * wander(take, n, 4))
    squeal = tone(f0, np.array([0.3, 1.0, 0.7, 0.5, 0.2]), n)
    return squeal * np.clip(wander(take, n, source.uniform(3, 6), -0.5, 1.2), 0, 1)


def _clinks(n: int, source: Random, take: Random) -> Signal:
    """Keys, glasses, spoons: short inharmonic rings."""
    out, t60 = np.zeros(n), source.uniform(0.08, 0.25)
    modes = [log_uniform(source, 1600, 6000) for _ in range(5)]
    for start in beats(take, n, source.uniform(0.12, 0.35), 0.6):
        tune, gain = take.uniform(0.97, 1.03), take.uniform(0.4, 1.0)
        for hertz in modes:
            place(out, int(start), gain * take.uniform(0.2, 1) * ring(RATE // 4, tune * hertz, t60))
    return out


def _whistle(n: int, source: Random, take: Random) -> Signal:
    """A person whistling: held notes with a slow vibrato, a breath of noise."""
    notes = 2 ** (source.choice([0, 2, 4, 5, 7, 9, 12], 8) / 12) * log_uniform(source, 1100, 1800)
    length = source.uniform(0.2, 0.4)
    index = ((np.arange(n) / RATE / length + take.uniform()) % 8).astype(int)
    f0 = low_pass(notes[index] - notes[index[0]], 12.0) + notes[index[0]]
    f0 *= 1 + 0.01 * np.sin(2 * np.pi * 5.5 * np.arange(n) / RATE)
    sung = tone(f0, np.array([1.0, 0.05]), n)
    return sung + 0.05 * rms(sung) * noise(take, n)


_OTHERS = (_toy, _scrape, _cricket, _frog, _insect, _squeak, _clinks, _whistle)


def bird(label: str, n: int, source: Random, take: Random) -> Signal:
    """(n,) a bird ("bird") or another creature or thing ("other"), out of doors."""
    make = _bird if label == "bird" else _OTHERS[source.integers(len(_OTHERS))]
    sound = unit(make(n, source, take))
    return record(sound + source.uniform(0.05, 0.5) * restless(take, n), source, take, snr=(3.0, 20.0))


# --- scenes -----------------------------------------------------------------------------------------------


def _ticks(n: int, per_second: float, take: Random, heavy: float) -> Signal:
    """(n,) impulses at random moments; the larger `heavy`, the fewer are much louder than the rest."""
    count = max(1, int(take.poisson(per_second * n / RATE)))
    out = np.zeros(n)
    np.add.at(
        out, take.integers(0, n, count), take.choice([-1, 1], count) * np.exp(heavy * take.normal(size=count))
    )
    return out


def _rain(n: int, source: Random, take: Random) -> Signal:
    """Drops: several hundred a second, each a tiny ring, over their own hiss."""
    drops = np.zeros(n)
    for _ in range(3):
        hertz = log_uniform(source, 700, 5500)
        drops += unit(resonate(_ticks(n, source.uniform(60, 200), take, 0.8), hertz, 0.5 * hertz))
    return unit(drops) + source.uniform(0.2, 0.5) * noise(take, n, 0.3)


def _sea(n: int, source: Random, take: Random) -> Signal:
    """Waves on a shore: noise that swells and, as each wave breaks, opens upwards and sinks back."""
    period = source.uniform(0.7, 1.1)
    phase = (np.arange(n) / RATE / period + take.uniform() + 0.1 * wander(take, n, 2)) % 1.0
    swell = np.where(phase < 0.35, phase / 0.35, (1 - phase) / 0.65)
    white = noise(take, n)
    low = unit(low_pass(white, log_uniform(source, 200, 500)))
    high = unit(white - low_pass(white, log_uniform(source, 800, 2000)))
    return low * (0.15 + swell) + source.uniform(0.5, 1.0) * high * swell**2.5


def _wind(n: int, source: Random, take: Random) -> Signal:
    """Wind in trees: a whistle of noise whose pitch wanders with each gust, and leaves."""
    air = noise(take, n)
    bands = log_uniform(source, 250, 500) * 2 ** np.linspace(0, 2.2, 10)
    centre = low_pass(wander(take, n, source.uniform(3, 5), -0.5, 9.5), 8.0)
    # A moving resonance: neighbouring fixed ones, cross-faded.
    howl = sum(
        resonate(air, hertz, 0.06 * hertz) * np.clip(1 - np.abs(centre - k), 0, 1)
        for k, hertz in enumerate(bands)
    )
    gust = (centre + 1) / 10
    leaves = (air - low_pass(air, 2500)) * gust * (1 + 0.7 * wander(take, n, 25))
    return unit(howl) * (0.3 + gust) + source.uniform(0.3, 0.7) * unit(leaves)


def _cafe(n: int, source: Random, take: Random) -> Signal:
    """Babble of several people at once, and crockery."""
    out = np.zeros(n)
    everyone, tongues = list((SPEAKERS | GUESTS).values()), list(LANGUAGES.values())
    for talker in source.choice(len(everyone), 3, replace=False):
        start = -int(take.uniform(0, 0.5) * RATE)
        while start < n:
            mood = EMOTIONS[take.choice(list(EMOTIONS))]
            said = speak(str(take.choice(WORDS)), everyone[talker], mood, tongues[take.integers(4)], take)
            place(out, max(start, 0), said[max(-start, 0) :] * take.uniform(0.5, 1.0))
            start += len(said) + int(take.uniform(0.0, 0.15) * RATE)
    return unit(out) + source.uniform(0.1, 0.4) * unit(_clinks(n, source, take))


def _train(n: int, source: Random, take: Random) -> Signal:
    """Wheels over rail joints: pairs of thuds at a steady beat, on a rumble."""
    rumble = noise(take, n, 1.5) * (1 + 0.3 * wander(take, n, 5))
    out = source.uniform(0.3, 0.7) * rumble
    length = int(0.12 * RATE)
    low, high = log_uniform(source, 80, 300), log_uniform(source, 500, 2000)
    second = int(source.uniform(0.09, 0.15) * RATE)
    for start in beats(take, n, source.uniform(0.33, 0.55), 0.03):
        for offset in (0, second):
            hit = noise(take, length) * decay(length, 0.1)
            thud = unit(resonate(hit, low, 0.5 * low)) + 0.7 * unit(resonate(hit, high, 0.5 * high))
            place(out, int(start) + offset, 2.0 * take.uniform(0.8, 1.1) * thud * decay(length, 0.15))
    return out


def _fire(n: int, source: Random, take: Random) -> Signal:
    """Crackles: few, dry, of wildly different strength, over a flickering low roar."""
    cracks = _ticks(n, source.uniform(12, 35), take, 1.3)
    short = take.standard_normal(48) * decay(48, 0.004)
    cracks = unit(np.convolve(cracks, short)[:n])
    roar = noise(take, n, 1.5) * (1 + 0.5 * wander(take, n, 12))
    return cracks + source.uniform(0.15, 0.4) * roar


def _stream(n: int, source: Random, take: Random) -> Signal:
    """Running water: hundreds of bubbles, each a short sine that rises as it nears the surface."""
    count = int(source.uniform(60, 150) * n / RATE)
    length = int(0.08 * RATE)
    t = np.arange(length) / RATE
    lowest = log_uniform(source, 350, 700)
    hertz = lowest * 2 ** take.uniform(0, 2.5, (count, 1))
    rise = take.uniform(2, 9, (count, 1))
    fall = np.exp(-t * take.uniform(40, 120, (count, 1)))
    bubbles = np.sin(2 * np.pi * hertz * (t + rise * t * t / 2)) * fall * np.minimum(1, t / 0.003)
    bubbles *= take.exponential(size=(count, 1)) + 0.1
    return unit(scatter(n, take.integers(-length // 2, n, count).clip(0), bubbles)) + 0.1 * noise(
        take, n, 0.5
    )


SCENES = {
    "cafe": _cafe,
    "fire": _fire,
    "rain": _rain,
    "sea": _sea,
    "stream": _stream,
    "train": _train,
    "wind": _wind,
}


def scene(label: str, n: int, source: Random, take: Random) -> Signal:
    """(n,) a place."""
    far_off = source.uniform(0.2, 0.8) * restless(take, n)
    return record(unit(SCENES[label](n, source, take)) + far_off, source, take, snr=(4.0, 20.0))
