"""Speech by the source-filter model: a glottal pulse train and noise, shaped by a moving vocal tract.

A word is a chain of phonemes, each with target formants; the formants glide between targets, and those glides
are what makes it a word. The *speaker* sets the length of the tract, the pitch, breath and small habits; the
*emotion* bends pitch, rate and voice quality; the *language* says the same word with its own rhythm, its own
sounds and its own melody. Nothing here is a recording of anybody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from slicer_lite.sounds.synthesis import RATE, TOP, Random, Signal, noise, unit, wander

HOP, WINDOW, FFT = 80, 320, 512  # samples: the tract moves in steps of 5 ms, seen through 20 ms


@dataclass(frozen=True)
class Phoneme:
    """What one sound asks of the voice. Formants are in Hz for a tract of length 1, gains are linear."""

    seconds: float
    formants: tuple[float, float, float]
    voiced: float = 0.0  # gain of the glottal pulses
    breath: float = 0.0  # gain of noise made at the glottis (aspiration)
    hiss: float = 0.0  # gain of noise made at a constriction, centred on `hiss_hertz`
    hiss_hertz: float = 4000.0
    hiss_octaves: float = 0.5
    hold: float = 0.4  # share of the duration spent on the target, the rest gliding


VOWELS = {
    "a": Phoneme(0.135, (760, 1250, 2550), 1.0),
    "e": Phoneme(0.125, (470, 1900, 2550), 1.0),
    "i": Phoneme(0.120, (290, 2300, 3000), 0.9),
    "o": Phoneme(0.130, (480, 860, 2450), 1.0),
    "u": Phoneme(0.120, (310, 780, 2300), 0.9),
}
SCHWA = (500.0, 1450.0, 2500.0)
CONSONANTS: dict[str, tuple[Phoneme, ...]] = {
    "m": (Phoneme(0.075, (250, 1000, 2200), 0.35, hold=0.7),),
    "n": (Phoneme(0.075, (250, 1600, 2600), 0.35, hold=0.7),),
    "l": (Phoneme(0.070, (350, 1150, 2750), 0.55, hold=0.5),),
    "r": (Phoneme(0.070, (380, 1150, 1600), 0.6, hold=0.4),),
    "j": (Phoneme(0.045, (280, 2250, 3000), 0.7, hold=0.3),),
    "s": (Phoneme(0.110, (320, 1700, 2600), hiss=0.5, hiss_hertz=5600, hiss_octaves=0.35, hold=0.7),),
    "S": (Phoneme(0.110, (320, 1900, 2500), hiss=0.5, hiss_hertz=2900, hiss_octaves=0.4, hold=0.7),),
    "b": (
        Phoneme(0.060, (220, 800, 2200), 0.08, hold=0.9),
        Phoneme(0.012, (300, 900, 2200), 0.4, hiss=0.5, hiss_hertz=700, hiss_octaves=1.0),
    ),
    "t": (
        Phoneme(0.065, (300, 1750, 2700), hold=0.9),
        Phoneme(0.015, (320, 1750, 2700), hiss=0.9, hiss_hertz=4300, hiss_octaves=0.6),
    ),
    "k": (
        Phoneme(0.065, (300, 1900, 2200), hold=0.9),
        Phoneme(0.018, (320, 1900, 2200), hiss=0.9, hiss_hertz=1900, hiss_octaves=0.4),
    ),
    "h": (Phoneme(0.060, SCHWA, breath=0.6, hold=0.5),),
    "?": (Phoneme(0.050, SCHWA, hold=0.95),),  # glottal stop
}
# Words come in pairs of the same sounds in another order: an average over time cannot tell them apart.
WORDS = ("lami", "lima", "soki", "siko", "tenu", "tune", "rabo", "roba")


@dataclass(frozen=True)
class Emotion:
    """How a mood bends the voice; the default bends nothing."""

    stretch: float = 1.0  # durations are multiplied by this
    pitch: float = 0.0  # semitones added to the speaker's pitch
    melody: float = 1.0  # the language's melody is multiplied by this
    rise: float = 0.0  # semitones that each syllable climbs by its middle
    slide: float = 0.0  # semitones that each syllable has moved by its end
    drift: float = -1.0  # semitones that the whole word has moved by its end
    tilt: float = 0.0  # dB an octave added to the slope of the glottal spectrum
    breath: float = 0.0  # gain of noise beside the pulses
    rough: float = 0.0  # depth of the half-rate modulation that is heard as a harsh voice
    tremble: float = 0.0  # semitones of a slow tremble at 5.5 Hz


EMOTIONS = {
    "neutral": Emotion(),
    "angry": Emotion(stretch=0.85, pitch=2, melody=0.8, slide=-4, tilt=4, rough=0.7),
    "sad": Emotion(stretch=1.35, pitch=-1, melody=0.4, drift=-5, tilt=-3, breath=0.12, tremble=0.5),
    "happy": Emotion(stretch=0.95, pitch=2, melody=1.2, rise=5, drift=1, tilt=1),
}


@dataclass(frozen=True)
class Language:
    """Habits of a language: rhythm, melody, sounds. Pairs are for the first and the second syllable."""

    lengths: tuple[float, float]  # the vowels' durations are multiplied by this
    melody: tuple[tuple[float, float], tuple[float, float]]  # semitones at each syllable's begin and end
    loudness: tuple[float, float] = (1.0, 1.0)
    reduce: tuple[float, float] = (0.0, 0.0)  # how far each vowel moves to schwa
    consonants: float = 1.0  # the consonants' durations are multiplied by this
    swap: Mapping[str, str] = field(default_factory=dict)  # sounds it replaces
    glide: str = ""  # said between a consonant and its vowel
    coda: str = ""  # said after each vowel
    final: str = ""  # said at the very end
    aspiration: float = 0.0  # seconds of breath after t and k


LANGUAGES = {
    # first syllable stressed, the other swallowed; breathy stops
    "arvo": Language((1.5, 0.6), ((2, 1), (-1, -2)), loudness=(1, 0.5), reduce=(0, 0.7), aspiration=0.05),
    # even and level, every syllable closed by n, sh for s
    "belan": Language((0.9, 0.9), ((0, 0), (0, 0)), loudness=(0.9, 0.9), coda="n", swap={"s": "S"}),
    # tones (falling, then rising), long consonants, the end cut off
    "ciru": Language((0.8, 1.1), ((3, -1), (-2, 3)), consonants=1.7, final="?"),
    # second syllable stressed, a y after each consonant, the end breathed out
    "doman": Language((0.7, 1.7), ((-1, -1), (0, 1)), (0.6, 1), reduce=(0.4, 0), glide="j", final="h"),
}


@dataclass(frozen=True)
class Speaker:
    """One person's voice."""

    pitch: float  # Hz
    tract: float  # formants are multiplied by this: above 1 for a short vocal tract
    second: float = 1.0  # the second and third formant on top of that
    third: float = 1.0
    upper: float = 3600.0  # Hz of the fourth formant for a tract of length 1
    tilt: float = -5.5  # dB an octave of the glottal spectrum
    breath: float = 0.05  # gain of noise beside the pulses
    jitter: float = 0.01  # share of the pitch
    vibrato: float = 6.0  # Hz
    vibrato_depth: float = 0.0  # semitones
    bleat: float = 0.0  # depth of a quaver in loudness
    bleat_rate: float = 12.0  # Hz
    creak: float = 0.0  # depth of the half-rate modulation in the last part of the word
    sibilant: float = 1.0  # hiss centres are multiplied by this
    pace: float = 1.0  # durations are multiplied by this


def _speakers(count: int, seed: int) -> list[Speaker]:
    """`count` voices spread evenly over every habit: its range is cut into `count` steps, dealt at random."""
    rng = np.random.default_rng(seed)

    def deal(low: float, high: float) -> NDArray:
        return rng.permutation(np.linspace(low, high, count))

    def some(low: float, high: float) -> NDArray:  # below 0: those who do not have the habit at all
        return np.maximum(deal(low, high), 0.0)

    tract = np.linspace(0.82, 1.22, count)
    # Pitch follows the tract only loosely, as in people.
    octaves = 1.1 * np.clip((tract - 0.82) / 0.4 + rng.uniform(-0.45, 0.45, count), 0, 1)
    columns = {
        "tract": tract,
        "pitch": 110 * 2**octaves,
        "second": deal(0.93, 1.07),
        "third": deal(0.93, 1.07),
        "upper": deal(3300, 3900),
        "tilt": deal(-7.5, -3.5),
        "breath": deal(0.0, 0.15),
        "jitter": deal(0.002, 0.03),
        "vibrato": deal(3.0, 8.0),
        "vibrato_depth": some(-0.4, 1.2),
        "bleat": some(-0.6, 0.7),
        "bleat_rate": deal(9.0, 16.0),
        "creak": some(-0.6, 0.6),
        "sibilant": deal(0.85, 1.15),
        "pace": deal(0.88, 1.12),
    }
    return [Speaker(**{name: float(column[i]) for name, column in columns.items()}) for i in range(count)]


_HOUSE = ("ada", "ben", "cleo", "dan", "eva", "finn", "gita", "hugo", "ines", "jon", "kira", "liam")
_GUESTS = ("mara", "noah", "oda", "paul", "rosa", "sami", "tess", "uwe")
# Seed 154 is the one of 300 under which the two most alike of the twelve are furthest apart.
SPEAKERS = dict(zip(_HOUSE, _speakers(len(_HOUSE), 154), strict=True))  # those of the speaker task
GUESTS = dict(zip(_GUESTS, _speakers(len(_GUESTS), 23), strict=True))  # heard only in the other tasks' tests


@dataclass(frozen=True)
class _Score:
    """A word laid out in time: its phonemes, the syllable of each, which are vowels, and their edges (s)."""

    phonemes: list[Phoneme]
    syllables: list[int]
    vowels: list[bool]
    starts: NDArray
    ends: NDArray

    def glide(self, targets: Iterable[float], at: NDArray) -> Signal:
        """A target for each phoneme -> a curve that rests on each for its `hold` and glides in between."""
        middle = (self.starts + self.ends) / 2
        rest = (self.ends - self.starts) * np.array([p.hold for p in self.phonemes]) / 2
        return np.interp(at, *_plateaus(middle - rest, middle + rest, targets))

    def gain(self, gains: Iterable[float], at: NDArray) -> Signal:
        """A gain for each phoneme -> a curve that changes within 8 ms of each edge, 0 outside the word."""
        edge = np.minimum(0.008, (self.ends - self.starts) / 3)
        return np.interp(at, *_plateaus(self.starts + edge, self.ends - edge, gains), left=0.0, right=0.0)


def _plateaus(starts: NDArray, ends: NDArray, values: Iterable[float]) -> tuple[NDArray, NDArray]:
    return np.stack([starts, ends], axis=1).ravel(), np.repeat(np.fromiter(values, dtype=float), 2)


def _score(word: str, language: Language, pace: float, take: Random) -> _Score:
    """The word as this language says it, every duration times `pace` and up to a tenth off."""
    said: list[tuple[Phoneme, int, bool]] = []

    def consonant(letter: str, syllable: int, stretch: float = 1.0) -> None:
        for part in CONSONANTS[language.swap.get(letter, letter)]:
            said.append((replace(part, seconds=part.seconds * stretch), syllable, False))  # noqa: PERF401

    for syllable in range(len(word) // 2):
        letter, vowel = word[2 * syllable], VOWELS[word[2 * syllable + 1]]
        consonant(letter, syllable, language.consonants)
        if letter in "tk" and language.aspiration:
            puff = Phoneme(language.aspiration, vowel.formants, breath=0.7, hold=0.2)
            said.append((puff, syllable, False))
        if language.glide:
            consonant(language.glide, syllable)
        share = language.reduce[syllable]
        first, second, third = (
            (1 - share) * v + share * s for v, s in zip(vowel.formants, SCHWA, strict=True)
        )
        vowel = replace(
            vowel,
            formants=(first, second, third),
            seconds=vowel.seconds * language.lengths[syllable],
            voiced=vowel.voiced * language.loudness[syllable],
        )
        said.append((vowel, syllable, True))
        if language.coda:
            consonant(language.coda, syllable, 0.8)
    if language.final:
        consonant(language.final, len(word) // 2 - 1)

    phonemes, syllables, vowels = (list(column) for column in zip(*said, strict=True))
    lengths = np.array([p.seconds for p in phonemes]) * pace * take.uniform(0.9, 1.1, len(phonemes))
    lengths *= min(1.0, 0.86 / lengths.sum())  # a word must fit into one window of 0.95 s
    ends = np.cumsum(lengths)
    return _Score(phonemes, syllables, vowels, ends - lengths, ends)


def speak(word: str, speaker: Speaker, emotion: Emotion, language: Language, take: Random) -> Signal:
    """(samples,) the word said once, unit RMS, without silence around it; 0.3 to 0.9 s.

    Two signals are filtered by what they pass through, which changes every 5 ms: the voice (glottal pulses
    and breath) by the whole tract, the hiss of a narrow place in the mouth by what is in front of it.
    """
    score = _score(word, language, emotion.stretch * speaker.pace * take.uniform(0.92, 1.08), take)
    n = int(score.ends[-1] * RATE)
    t = np.arange(n) / RATE
    semitones = _melody(score, speaker, emotion, language, take, t)
    voice = _glottis(score, speaker, emotion, semitones, take, t)
    hiss = 0.5 * noise(take, n) * score.gain((p.hiss for p in score.phonemes), t)

    frames = np.arange(n // HOP + 1) * HOP / RATE
    bins = np.fft.rfftfreq(FFT, 1 / RATE)
    octaves = np.log2(np.maximum(bins, 100.0) / 100.0)
    slope = 10 ** (octaves * (speaker.tilt + emotion.tilt + take.uniform(-1, 1)) / 20)
    tract = _tract(score, speaker, take, frames, bins) * slope
    centre = score.glide((p.hiss_hertz for p in score.phonemes), frames)[:, None] * speaker.sibilant
    width = score.glide((p.hiss_octaves for p in score.phonemes), frames)[:, None]
    opening = np.exp(-0.5 * (np.log2(np.maximum(bins, 50.0) / centre) / width) ** 2)
    return unit(_filtered([(voice, tract), (hiss, opening)], n))


def _melody(
    score: _Score, speaker: Speaker, emotion: Emotion, language: Language, take: Random, t: Signal
) -> Signal:
    """(n,) pitch in semitones about the speaker's: the language's melody, then the mood, then the habit."""
    at: list[float] = []
    semitones: list[float] = []
    for start, end, syllable, vowel in zip(
        score.starts, score.ends, score.syllables, score.vowels, strict=True
    ):
        if vowel:
            begin, finish = (emotion.melody * s for s in language.melody[syllable])
            at += [start, (start + end) / 2, end]
            semitones += [begin, (begin + finish) / 2 + emotion.rise, finish + emotion.slide]
    line = np.interp(t, at, semitones)
    line += emotion.pitch + emotion.drift * t / t[-1] + take.uniform(-1, 1)
    line += speaker.vibrato_depth * np.sin(2 * np.pi * (speaker.vibrato * t + take.uniform()))
    return line + emotion.tremble * np.sin(2 * np.pi * (5.5 * t + take.uniform()))


def _glottis(
    score: _Score, speaker: Speaker, emotion: Emotion, semitones: Signal, take: Random, t: Signal
) -> Signal:
    """(n,) what leaves the glottis: pulses with jitter and shimmer, and breath."""
    n = len(t)
    f0 = speaker.pitch * 2 ** (semitones / 12) * (1 + speaker.jitter * wander(take, n, 80))
    cycles = np.cumsum(f0) / RATE
    quaver = speaker.bleat * np.sin(2 * np.pi * (speaker.bleat_rate * t + take.uniform()))
    voiced = score.gain((p.voiced for p in score.phonemes), t) * (1 + 0.1 * wander(take, n, 60) + quaver)
    late = np.clip((t / t[-1] - 0.6) / 0.2, 0, 1)
    harsh = np.clip(emotion.rough + speaker.creak * late, 0, 0.85)  # every other pulse is weaker
    pulses = _pulse_train(cycles, f0) * (1 + harsh * np.cos(np.pi * cycles))
    breath = score.gain((p.breath for p in score.phonemes), t) + (speaker.breath + emotion.breath) * voiced
    return pulses * voiced + 3.0 * noise(take, n) * breath


def _tract(score: _Score, speaker: Speaker, take: Random, frames: NDArray, bins: NDArray) -> NDArray:
    """(frames, bins) magnitude response of the vocal tract: five formants, the lower three moving."""
    scale = speaker.tract * np.array([1.0, speaker.second, speaker.third]) * take.uniform(0.985, 1.015, 3)
    centres = [score.glide((p.formants[k] for p in score.phonemes), frames) * scale[k] for k in range(3)]
    centres += [np.full(len(frames), speaker.tract * f) for f in (speaker.upper, speaker.upper + 1000)]
    damping = np.ones((len(frames), len(bins)))
    for centre, width in zip(centres, (80, 100, 140, 220, 300), strict=True):
        square = (bins / centre[:, None]) ** 2
        damping *= (1 - square) ** 2 + (width / centre[:, None]) ** 2 * square
    return 1 / np.sqrt(damping)


def _pulse_train(cycles: Signal, f0: Signal) -> Signal:
    """(n,) equal harmonics of `f0` up to `TOP`: the closed form of their sum, so that nothing folds back."""
    order = 2 * np.floor(TOP / f0) + 1
    below = np.sin(np.pi * cycles)
    safe = np.where(np.abs(below) < 1e-6, 1.0, below)
    train = np.where(np.abs(below) < 1e-6, order, np.sin(np.pi * order * cycles) / safe)
    return (train - 1) * f0 / 400.0


def _filtered(parts: list[tuple[Signal, NDArray]], n: int) -> Signal:
    """(n,) sum of signals (n,), each filtered by its moving magnitude response (frames, FFT // 2 + 1).

    Each signal is cut into short windows, each window's spectrum multiplied by the response at that moment,
    and the windows are added up again.
    """
    frames = parts[0][1].shape[0]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)  # adds up to 2 at a hop of a quarter
    index = np.arange(frames)[:, None] * HOP + np.arange(WINDOW)
    before = (FFT - WINDOW) // 2  # room on both sides: the response has no phase and spreads both ways
    spectrum = np.zeros((frames, FFT // 2 + 1), dtype=complex)
    for x, response in parts:
        padded = np.zeros(frames * HOP + WINDOW)
        padded[WINDOW // 2 : WINDOW // 2 + n] = x
        buffer = np.zeros((frames, FFT))
        buffer[:, before : before + WINDOW] = padded[index] * window
        spectrum += np.fft.rfft(buffer) * response
    pieces = np.fft.irfft(spectrum, FFT)
    out = np.zeros(frames * HOP + FFT)
    for shift in range(0, FFT, HOP):  # overlap-add, one column of hops at a time
        column = pieces[:, shift : shift + HOP]
        view = out[shift : shift + frames * HOP].reshape(frames, HOP)
        view[:, : column.shape[1]] += column
    return out[before + WINDOW // 2 : before + WINDOW // 2 + n] / 2
