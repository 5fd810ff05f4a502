"""Speech Commands, versions 1 and 2: which word is spoken?"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from slicer_lite.lape.tasks.download import Archive
from slicer_lite.lape.tasks.task import Row, Task, draw, files_below, read_lines, require

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
_WORDS_1 = tuple(
    "bed bird cat dog down eight five four go happy house left marvin nine no off on one right seven sheila "  # noqa: SIM905
    "six stop three tree two up wow yes zero".split()
)
_WORDS_2 = tuple(sorted((*_WORDS_1, "backward", "follow", "forward", "learn", "visual")))
_NOISE = "_background_noise_"
_SHARE = 0.1  # unknown and silence clips, as a share of the ten words' clips in each split
_STRETCHES = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}  # of each noise file [ours]
_SECONDS = 1.0  # of silence


def _reader(version: int, classes: int) -> Callable[[Path], list[Row]]:
    words = _WORDS_1 if version == 1 else _WORDS_2

    def read(root: Path) -> list[Row]:
        folder = root / "SpeechCommands" / f"speech_commands_v0.0{version}"
        require(folder)
        rows = _spoken(folder, words)
        return rows if classes == 35 else _twelve(rows, folder)

    return read


def _spoken(folder: Path, words: tuple[str, ...]) -> list[Row]:
    """Every spoken word."""
    lists = {"validation": folder / "validation_list.txt", "test": folder / "testing_list.txt"}
    require(*(folder / word for word in words))
    files = [file for word in words for file in files_below(folder / word, (".wav",), 0)]
    if not any(path.exists() for path in lists.values()):
        return [Row(f, f.parent.name, split_by_speaker(_speaker(f)), _speaker(f)) for f in files]
    rows = []
    for split, path in lists.items():
        for line in read_lines(path):
            file = folder / line
            if file.parent.name not in words:
                raise ValueError(f"{path} names {line!r}, which is no word of this version of the data set.")
            rows.append(Row(file, file.parent.name, split, _speaker(file)))
    listed = {row.path for row in rows}
    return rows + [Row(f, f.parent.name, "train", _speaker(f)) for f in files if f not in listed]


def _speaker(file: Path) -> str:
    """`c6ee87a7_nohash_3.wav` was spoken by c6ee87a7."""
    return file.name.partition("_nohash_")[0]


def split_by_speaker(speaker: str) -> str:
    """The rule that the data set's lists were made by, for copies without them.

    With h = SHA-1(speaker) mod 2^27, read as a share of 2^27 - 1: below 10 % validation, below 20 % test. Source:
    README.md of Speech Commands.
    """
    share = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 2**27 / (2**27 - 1)
    return "validation" if share < 0.1 else "test" if share < 0.2 else "train"


def _twelve(rows: list[Row], folder: Path) -> list[Row]:
    """Ten words, a drawn part of the others as `_unknown_`, and cuts of the noise files as `_silence_`."""
    require(folder / _NOISE)
    noises = files_below(folder / _NOISE, (".wav",), 0)
    if not noises:
        raise FileNotFoundError(f"{folder / _NOISE} holds no .wav file, and silence is cut from them.")
    kept = [row for row in rows if row.label in COMMANDS]
    for split in _STRETCHES:
        count = math.ceil(_SHARE * sum(row.split == split for row in kept if row.label in COMMANDS))
        others = {
            f"{row.label}/{row.path.name}": row
            for row in rows
            if row.split == split and row.label not in COMMANDS
        }
        drawn = draw(others, count)
        kept += [row._replace(label=UNKNOWN) for name, row in others.items() if name in drawn]
        kept += _silence(noises, split, count)
    return kept


def _silence(noises: list[Path], split: str, count: int) -> list[Row]:
    """`count` seconds of noise, evenly spaced in each file's stretch for this split, files in turn. [ours]"""
    import soundfile  # here, as in `decode`: it is needed only by those who read audio

    rows = []
    for place, file in enumerate(noises):
        try:
            seconds = soundfile.info(file).duration
        except soundfile.SoundFileError as error:
            raise ValueError(f"{file} is not readable as audio ({str(error).rstrip('.')}).") from None
        begin, end = (share * seconds for share in _STRETCHES[split])
        if end - begin < _SECONDS:
            raise ValueError(f"{file} is too short to cut {_SECONDS:g} s for each split from it.")
        starts = np.linspace(begin, end - _SECONDS, len(range(place, count, len(noises))))
        rows += [Row(file, SILENCE, split, f"{file.name} {split}", (float(s), _SECONDS)) for s in starts]
    return rows


_LAYOUT = """\
SpeechCommands/speech_commands_v0.0{version}/
  validation_list.txt, testing_list.txt
  yes/0a7c2a8d_nohash_0.wav …   a folder a word
"""
_LISTS = (
    "validation_list.txt and testing_list.txt of the archive, the rest train; no speaker is in two splits. A copy "
    "without the lists is split by the rule of its README that made them, a hash of the speaker."
)
_TWELVE = (
    f" In each split `{UNKNOWN}` and `{SILENCE}` have a tenth as many clips as the ten words together (Warden, "
    "arXiv 1804.03209, and its training code). Which clips of other words are drawn is fixed by a hash of their "
    "names [ours]. Silence is cut evenly from the noise files: from their first 60 % for train, the next 20 % for "
    "validation, the last 20 % for test [ours]."
)
_CHECKSUMS = {
    1: "sha256:743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    2: "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
}
_ARXIV = "https://arxiv.org/abs/1804.03209"
_CARD = "https://huggingface.co/datasets/google/speech_commands"


def _task(version: int, classes: int, published: dict[str, int], published_in: str) -> Task:
    twelve = classes == 12
    name = f"speech_commands_v0.0{version}"
    noise = f"  {_NOISE}/running_tap.wav …\n" if twelve else ""
    return Task(
        id="sc_v1" if version == 1 else f"sc_v2_{classes}",
        title="keyword spotting",
        dataset=f"Speech Commands v{version}",
        classes=(*COMMANDS, UNKNOWN, SILENCE) if twelve else _WORDS_2,
        class_count=classes,
        source=_ARXIV,
        licence="CC BY 4.0",
        layout=_LAYOUT.format(version=version) + noise,
        split=_LISTS + (_TWELVE if twelve else ""),
        published=published,
        published_in=published_in,
        reader=_reader(version, classes),
        archives=(
            Archive(
                f"http://download.tensorflow.org/data/{name}.tar.gz",
                _CHECKSUMS[version],
                folder=f"SpeechCommands/{name}",
            ),
        ),
    )


TASKS = (
    _task(1, 12, {"test": 3081}, _CARD),
    _task(2, 12, {"test": 4890}, _CARD),
    _task(2, 35, {"train": 84843, "validation": 9981, "test": 11005}, f"{_CARD}, less its noise files"),
)
