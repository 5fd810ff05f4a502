"""LAPE's data sets in miniature: real folder names, file names, lists and odd files, very short sounds."""

import csv
import functools
import io
import json
from pathlib import Path

import numpy as np
import soundfile

# Real speakers of Speech Commands, by what its lists say of them.
SPEAKERS = {
    "train": ("4a294341", "43f57297", "f9af823e"),
    "validation": ("e11fbc6e", "dca2797e"),
    "test": ("bb05582b", "97f4c236"),
}
NOISES = ("doing_the_dishes", "dude_miaowing", "exercise_bike", "pink_noise", "running_tap", "white_noise")
NOISE_SECONDS = 12
TUT = "TUT-urban-acoustic-scenes-2018-development"


@functools.cache
def sound(rate=16_000, channels=1, subtype="PCM_16", kind="WAV", samples=160) -> bytes:
    """The bytes of a very short audio file."""
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(rate + channels).standard_normal((samples, channels))
    soundfile.write(file, noise, rate, subtype, format=kind)
    return file.getvalue()


def put(path: Path, content: bytes | str | None = None) -> None:
    """Write a file, a 16 kHz sound if nothing else is given, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = sound() if content is None else content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def put_csv(path: Path, rows, delimiter=",") -> None:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    put(path, file.getvalue())


def speech_commands(root: Path, version: int, words, lists=True) -> None:
    folder = root / "SpeechCommands" / f"speech_commands_v0.0{version}"
    listed = {"validation": [], "test": []}
    for word in words:
        for split, speakers in SPEAKERS.items():
            for speaker in speakers:
                name = f"{word}/{speaker}_nohash_0.wav"
                put(folder / name)
                if split != "train":
                    listed[split].append(name)
        put(folder / word / "._4a294341_nohash_0.wav", "left by a Mac")
    if lists:
        put(folder / "validation_list.txt", "\n".join(listed["validation"]) + "\n")
        put(folder / "testing_list.txt", "\n".join(listed["test"]) + "\n")
    put(folder / "README.md", "# Speech Commands")
    put(folder / "LICENSE", "CC BY 4.0")
    put(folder / "_background_noise_" / "README.md", "recorded or made")
    for name in NOISES:
        put(folder / "_background_noise_" / f"{name}.wav", sound(samples=16_000 * NOISE_SECONDS))


def librispeech(root: Path) -> None:
    """251 speakers of one chapter, but for the first, who read two."""
    top = root / "LibriSpeech"
    put(top / "SPEAKERS.TXT", "; ID |SEX| SUBSET |MINUTES| NAME\n")
    put(top / "CHAPTERS.TXT", "; ID |READER\n")
    flac = sound(kind="FLAC")
    for speaker in range(19, 19 + 251):
        chapters = {"198": 3, "1240": 2} if speaker == 19 else {"227": 2}
        for chapter, count in chapters.items():
            folder = top / "train-clean-100" / str(speaker) / chapter
            for number in range(count):
                put(folder / f"{speaker}-{chapter}-{number:04d}.flac", flac)
            put(folder / f"{speaker}-{chapter}.trans.txt", f"{speaker}-{chapter}-0000 NORTHANGER ABBEY\n")


def voxceleb1(root: Path) -> None:
    top, lines = root / "VoxCeleb1", []
    for number in range(10_001, 11_252):
        for which, video in (("1", "1zcIwhmdeo4"), ("2", "7gWzIy6yIIk"), ("3", "9mQ11vBs1wc")):
            name = f"id{number}/{video}/00001.wav"
            put(top / "wav" / name)
            lines.append(f"{which} {name}")
    put(top / "iden_split.txt", "\n".join(lines) + "\n")
    put(top / "vox1_meta.csv", "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n")


def iemocap(root: Path) -> None:
    head = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    for number in range(1, 6):
        session = root / "IEMOCAP_full_release" / f"Session{number}"
        for dialog, emotions in (
            (f"Ses0{number}F_impro01", ("neu", "xxx", "fru", "exc", "ang")),
            (f"Ses0{number}M_script01_1b", ("sad", "hap", "oth", "neu", "sur")),
        ):
            turns = [f"{dialog}_{'FM'[i % 2]}{i:03d}" for i in range(len(emotions))]
            blocks = [
                f"[{6.2901 + i:.4f} - {8.2357 + i:.4f}]\t{turn}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n"
                "C-E2:\tNeutral;\t()\nC-F1:\tNeutral;\t(curious)\nA-E3:\tval 3; act 2; dom  2;\t()\n"
                for i, (turn, emotion) in enumerate(zip(turns, emotions, strict=True))
            ]
            evaluation = session / "dialog" / "EmoEvaluation"
            put(evaluation / f"{dialog}.txt", head + "\n".join(blocks))
            put(evaluation / f"._{dialog}.txt", b"\x00\x05\x16\x07 left by a Mac \xff")
            put(evaluation / "Categorical" / f"{dialog}_e2_cat.txt", f"{turns[0]} :Neutral; ()\n")
            put(session / "dialog" / "transcriptions" / f"{dialog}.txt", f"{turns[0]} [006.29-008.23]: Hi.\n")
            for turn in turns:
                put(session / "sentences" / "wav" / dialog / f"{turn}.wav")


def voxforge(root: Path) -> None:
    """Tony and ralfherzog are drawn into train, Eldon into validation, Joel and delnora into test."""
    readme = "User Name:{}\n\nSpeaker Characteristics:\n\nGender: Male\nLanguage: {}\n"
    names = ("Tony", "ralfherzog", "anonymous", "Eldon", "Joel", "delnora")
    for place, language in enumerate(("de", "en", "es", "fr", "it", "ru")):
        for name in names:
            for take in ("hsf", "hne"):
                top = root / "VoxForge" / language / f"{name}-2008071{place}-{take}"
                kind = "flac" if take == "hne" else "wav"
                put(top / kind / f"a000{place}.{kind}", sound(kind=kind.upper()))
                put(top / "etc" / "README", readme.format(name, language.upper()))
                put(top / "etc" / "PROMPTS", f"{name}/mfc/a0001 AUTHOR OF THE DANGER TRAIL\n")
                put(top / "LICENSE", "GPL")


def nsynth(root: Path) -> None:
    families = "bass brass flute guitar keyboard mallet organ reed string synth_lead vocal".split()  # noqa: SIM905
    for part, first in (("train", 0), ("valid", 100), ("test", 200)):
        notes = {}
        for number, family in enumerate(families):
            if family == "synth_lead" and part != "train":
                continue
            instrument = f"{family}_electronic_{first + number:03d}"
            for pitch in (60, 61):
                name = f"{instrument}-{pitch:03d}-075"
                notes[name] = {
                    "note": first * 1000 + number,
                    "note_str": name,
                    "instrument": first + number,
                    "instrument_str": instrument,
                    "pitch": pitch,
                    "velocity": 75,
                    "sample_rate": 16_000,
                    "qualities": [0] * 10,
                    "qualities_str": [],
                    "instrument_family": number,
                    "instrument_family_str": family,
                    "instrument_source": 1,
                    "instrument_source_str": "electronic",
                }
                put(root / f"nsynth-{part}" / "audio" / f"{name}.wav")
        put(root / f"nsynth-{part}" / "examples.json", json.dumps(notes))


def birdsong(root: Path) -> None:
    for folder, table, names in (
        ("ff1010bird", "ff1010bird_metadata_2018.csv", [str(n) for n in range(55, 75)]),
        (
            "warblrb10k_public",
            "warblrb10k_public_metadata_2018.csv",
            [f"759808e5-f824-401e-{n}" for n in range(9058, 9078)],
        ),
    ):
        rows = [[name, folder.removesuffix("_public"), int(i % 4 == 0)] for i, name in enumerate(names)]
        put_csv(root / folder / table, [["itemid", "datasetid", "hasbird"], *rows])
        for name in names:
            put(root / folder / "wav" / f"{name}.wav", sound(44_100, samples=441))


def tut2018(root: Path) -> None:
    from slicer_lite.lape.tasks.sounds import SCENES

    top, meta, setup = root / TUT, [], {"train": [], "evaluate": []}
    for number, scene in enumerate(SCENES):
        for take, (part, city) in enumerate(
            (("train", "barcelona"), ("train", "helsinki"), ("evaluate", "paris"))
        ):
            place = 3 * number + take  # places are numbered through all scenes
            name = f"audio/{scene}-{city}-{place}-{30 * place}-a.wav"
            put(top / name, sound(48_000, 2, "PCM_24", samples=480))
            meta.append([name, scene, f"{city}-{place}", "a"])
            setup[part].append([name, scene])
    put_csv(top / "meta.csv", [["filename", "scene_label", "identifier", "source_label"], *meta], "\t")
    for part, rows in setup.items():
        put_csv(top / "evaluation_setup" / f"fold1_{part}.txt", rows, "\t")
    tests = [row[:1] for row in setup["evaluate"]]
    put_csv(top / "evaluation_setup" / "fold1_test.txt", tests, "\t")
    put(top / "README.html", "<html></html>")


def us8k(root: Path) -> None:
    from slicer_lite.lape.tasks.sounds import URBAN

    top = root / "UrbanSound8K"
    rows = [["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]]
    formats = [(44_100, 2, "PCM_16"), (96_000, 2, "PCM_24"), (22_050, 1, "PCM_U8"), (11_025, 1, "PCM_16")]
    for fold in range(1, 11):
        for number, label in enumerate(URBAN):
            source = 100_000 + 100 * fold + number
            name = f"{source}-{number}-0-0.wav"
            rows.append([name, source, "0.0", "0.317551", 1, fold, number, label])
            put(top / "audio" / f"fold{fold}" / name, sound(*formats[number % 4], samples=400))
        put(top / "audio" / f"fold{fold}" / ".DS_Store", b"\x00")
    put_csv(top / "metadata" / "UrbanSound8K.csv", rows)
    put(top / "UrbanSound8K_README.txt", "UrbanSound8K")
    put(top / "FREESOUNDCREDITS.txt", "credits")
