"""Who speaks, in which language, in which mood: LibriSpeech, VoxCeleb1, VoxForge, IEMOCAP."""

from __future__ import annotations

import hashlib
from pathlib import Path

from slicer_lite.lape.tasks.download import Archive
from slicer_lite.lape.tasks.task import Row, Task, files_below, read_lines, require

LANGUAGES = ("de", "en", "es", "fr", "it", "ru")
EMOTIONS = {"neu": "neutral", "ang": "angry", "sad": "sad", "hap": "happy", "exc": "happy"}
_OTHER_EMOTIONS = ("fru", "sur", "fea", "dis", "oth", "xxx")  # xxx: the listeners did not agree
_SPLITS = {"1": "train", "2": "validation", "3": "test"}  # of iden_split.txt
_HELD_OUT = 0.2  # of each LibriSpeech speaker's utterances


def _librispeech(root: Path) -> list[Row]:
    folder = root / "LibriSpeech" / "train-clean-100"
    require(folder)
    utterances: dict[str, list[Path]] = {}
    for file in files_below(folder, (".flac",), depth=2):
        utterances.setdefault(file.parent.parent.name, []).append(file)
    rows = []
    for speaker, files in utterances.items():
        files.sort(key=_place_in_reading)
        first_test = len(files) - max(1, round(_HELD_OUT * len(files)))
        rows += [Row(f, speaker, "train" if i < first_test else "test") for i, f in enumerate(files)]
    return rows


def _place_in_reading(file: Path) -> tuple[int, int]:
    """`103-1240-0057.flac` is utterance 57 of chapter 1240."""
    parts = file.stem.split("-")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ValueError(f"{file} is not named speaker-chapter-utterance, as LibriSpeech's files are.")
    return int(parts[1]), int(parts[2])


def _voxceleb1(root: Path) -> list[Row]:
    folder = root / "VoxCeleb1"
    table = folder / "iden_split.txt"
    require(table, folder / "wav")
    rows = []
    for number, line in enumerate(read_lines(table), 1):
        which, _, name = line.partition(" ")
        if which not in _SPLITS or name.count("/") != 2:
            raise ValueError(
                f"{table}, line {number}: {line!r} should be 1, 2 or 3 and a path such as "
                "id10001/1zcIwhmdeo4/00001.wav."
            )
        rows.append(Row(folder / "wav" / name, name.partition("/")[0], _SPLITS[which]))
    return rows


def _voxforge(root: Path) -> list[Row]:
    folders = {language: root / "VoxForge" / language for language in LANGUAGES}
    require(*folders.values())
    rows = []
    for language, folder in folders.items():
        packed = [f.name for f in sorted(folder.glob("*.tgz")) if not f.with_suffix("").is_dir()]
        if packed:
            raise FileNotFoundError(
                f"{len(packed):,} archives in {folder} are not unpacked ({packed[0]} for one). In that folder: "
                'for f in *.tgz; do tar xzf "$f"; done'
            )
        for file in files_below(folder, (".wav", ".flac"), depth=2):
            if file.parent.name in ("wav", "flac"):
                speaker = voxforge_speaker(file.parent.parent.name)
                rows.append(Row(file, language, split_of_speaker(speaker), speaker))
    return rows


def voxforge_speaker(submission: str) -> str:
    """`Joel-20080716-hsf` was sent by Joel: user name, date, random letters."""
    return submission.rsplit("-", 2)[0]


def split_of_speaker(speaker: str) -> str:
    """70 % of the speakers train, 10 % validation, 20 % test, by a hash of the name. [ours]

    `anonymous` is many people; some may have sent twice. All go to train, so that none can be in two splits.
    """
    if speaker == "anonymous":
        return "train"
    share = int(hashlib.sha256(speaker.encode()).hexdigest(), 16) / 2**256
    return "test" if share < 0.2 else "validation" if share < 0.3 else "train"


def _iemocap(root: Path) -> list[Row]:
    sessions = [root / "IEMOCAP_full_release" / f"Session{number}" for number in range(1, 6)]
    require(*sessions)
    require(*(s / part for s in sessions for part in ("sentences/wav", "dialog/EmoEvaluation")))
    rows = []
    for session in sessions:
        wavs = session / "sentences" / "wav"
        for table in files_below(session / "dialog" / "EmoEvaluation", (".txt",), depth=0):
            for line in read_lines(table):
                # [6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 2.5000, 2.5000]
                if not line.startswith("["):
                    continue
                fields = line.split("\t")
                if len(fields) < 3 or fields[2] not in (*EMOTIONS, *_OTHER_EMOTIONS):
                    raise ValueError(f"{table}: {line!r} should hold time, turn and emotion between tabs.")
                if fields[2] in EMOTIONS:
                    file = wavs / table.stem / f"{fields[1]}.wav"
                    rows.append(Row(file, EMOTIONS[fields[2]], "test", session.name))
    return rows


TASKS = (
    Task(
        id="librispeech_sid",
        title="speaker identification",
        dataset="LibriSpeech train-clean-100",
        class_count=251,
        source="https://www.openslr.org/12",
        licence="CC BY 4.0",
        layout="""\
LibriSpeech/train-clean-100/
  103/1240/103-1240-0000.flac …   speaker / chapter / utterance
""",
        split=(
            "Of each speaker's utterances, in the order of chapter and number, the last fifth is test, the rest "
            "train [ours]: only at one place of the reading do the halves touch. There is no official split."
        ),
        published={"all": 28_539},
        published_in="https://huggingface.co/datasets/openslr/librispeech_asr",
        reader=_librispeech,
        archives=(
            Archive(
                "https://www.openslr.org/resources/12/train-clean-100.tar.gz",
                "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
            ),
        ),
    ),
    Task(
        id="voxceleb1_sid",
        title="speaker identification",
        dataset="VoxCeleb1",
        classes=tuple(f"id{number}" for number in range(10_001, 11_252)),
        class_count=1251,
        source="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html",
        licence="CC BY 4.0; the videos' owners keep their rights, and access is on request",
        layout="""\
VoxCeleb1/
  iden_split.txt
  wav/id10001/1zcIwhmdeo4/00001.wav …   vox1_dev_wav.zip and vox1_test_wav.zip unpacked into one folder
""",
        split="iden_split.txt of the data set's page: 1 train, 2 validation, 3 test.",
        published={"train": 138_361, "validation": 6_904, "test": 8_251},
        published_in="https://huggingface.co/datasets/s3prl/superb",
        reader=_voxceleb1,
        obtain="Ask for a copy at https://www.robots.ox.ac.uk/~vgg/data/voxceleb, and lay it out as in docs/lape.md.",
    ),
    Task(
        id="iemocap",
        title="emotion",
        dataset="IEMOCAP",
        classes=("neutral", "angry", "sad", "happy"),
        class_count=4,
        source="https://sail.usc.edu/iemocap/",
        licence="University of Southern California's own (its data release form), on request",
        layout="""\
IEMOCAP_full_release/Session1/ … Session5/
  dialog/EmoEvaluation/Ses01F_impro01.txt …
  sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav …
""",
        split=(
            "Five folds, one a session, each the test split once, so that no speaker is in both (as in SUPERB, "
            "arXiv 2105.01051). 'exc' (excited) counts as happy; turns with another label, or xxx (no "
            "agreement), are left out."
        ),
        published={"all": 5_531},
        published_in="https://flageval.baai.ac.cn/docs/en/audio/Speech-Emotion-Recognition/Speech-Emotion-Recognition.html",
        reader=_iemocap,
        obtain="Ask for a copy at https://sail.usc.edu/iemocap, and lay it out as in docs/lape.md.",
        folds=5,
    ),
    Task(
        id="voxforge",
        title="language identification",
        dataset="VoxForge",
        classes=LANGUAGES,
        class_count=6,
        source="http://www.voxforge.org",
        licence="GPL",
        layout="""\
VoxForge/de/ en/ es/ fr/ it/ ru/
  Joel-20080716-hsf/wav/a0001.wav, etc/README …   every archive unpacked; wav/ or flac/
""",
        split=(
            "70 % of the speakers train, 10 % validation, 20 % test (the shares of TensorFlow Datasets), drawn by "
            "a hash of the user name; 'anonymous', who is many people, is in train [ours]."
        ),
        published={},
        published_in="",
        reader=_voxforge,
        obtain="It is thousands of small archives: docs/lape.md has the commands that fetch and unpack them.",
    ),
)
