"""LAPE's data sets, each as a miniature in its true layout: what is read, and what is refused."""

import dataclasses
import functools
import hashlib
import http.server
import json
import re
import shutil
import tarfile
import threading
from collections import Counter
from pathlib import Path

import miniatures
import numpy as np
import pandas as pd
import pytest
import soundfile

import slicer_lite as sl
from slicer_lite.cli import main
from slicer_lite.lape import TASKS
from slicer_lite.lape.tasks import find_tasks
from slicer_lite.lape.tasks.download import Archive, fetch
from slicer_lite.lape.tasks.keywords import COMMANDS, SILENCE, UNKNOWN, split_by_speaker
from slicer_lite.lape.tasks.speech import split_of_speaker, voxforge_speaker
from slicer_lite.lape.tasks.task import draw, files_below

WORDS_2 = TASKS["sc_v2_35"].classes
WORDS_1 = [word for word in WORDS_2 if word not in ("backward", "follow", "forward", "learn", "visual")]
WRITERS = {
    "sc_v1": functools.partial(miniatures.speech_commands, version=1, words=WORDS_1),
    "sc_v2_12": functools.partial(miniatures.speech_commands, version=2, words=WORDS_2),
    "sc_v2_35": functools.partial(miniatures.speech_commands, version=2, words=WORDS_2),
    "librispeech_sid": miniatures.librispeech,
    "iemocap": miniatures.iemocap,
    "voxforge": miniatures.voxforge,
    "nsynth": miniatures.nsynth,
    "birdsong": miniatures.birdsong,
    "tut2018": miniatures.tut2018,
    "us8k": miniatures.us8k,
}
CLIPS = {  # of the miniatures, in each split
    "sc_v1": {"train": 36, "validation": 24, "test": 24},
    "sc_v2_12": {"train": 36, "validation": 24, "test": 24},
    "sc_v2_35": {"train": 105, "validation": 70, "test": 70},
    "librispeech_sid": {"train": 254, "test": 251},
    "voxceleb1_sid": {"train": 1251, "validation": 1251, "test": 1251},
    "iemocap": {"test": 30},
    "voxforge": {"train": 36, "validation": 12, "test": 24},
    "nsynth": {"train": 22, "validation": 20, "test": 20},
    "birdsong": {"train": 32, "test": 8},
    "tut2018": {"train": 20, "test": 10},
    "us8k": {"test": 100},
}


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """VoxCeleb1's 3,753 clips, written once."""
    root = tmp_path_factory.mktemp("voices")
    miniatures.voxceleb1(root)
    return root / "VoxCeleb1"


@pytest.fixture
def mini(tmp_path, voices):
    """Writes a task's miniature and returns the root folder. VoxCeleb1's sounds are shared: change its list only."""

    def write(name):
        if name == "voxceleb1_sid":
            (tmp_path / "VoxCeleb1").mkdir()
            (tmp_path / "VoxCeleb1/wav").symlink_to(voices / "wav")
            shutil.copy(voices / "iden_split.txt", tmp_path / "VoxCeleb1")
        else:
            WRITERS[name](tmp_path)
        return tmp_path

    return write


def rows(table):
    return table.labels.assign(path=[str(p) for p in table.paths])


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# What every task has


def test_the_eleven_tasks_are_there():
    counts = {
        "sc_v1": 12, "sc_v2_12": 12, "sc_v2_35": 35, "librispeech_sid": 251, "voxceleb1_sid": 1251, "iemocap": 4,
        "voxforge": 6, "nsynth": 11, "birdsong": 2, "tut2018": 10, "us8k": 10,
    }  # fmt: skip
    assert {name: task.class_count for name, task in TASKS.items()} == counts
    for name, task in TASKS.items():
        assert task.id == name
        assert task.classes == tuple(dict.fromkeys(task.classes))
        assert len(task.classes) in (0, task.class_count)
        assert bool(task.published) == bool(task.published_in)
        assert bool(task.archives) != bool(task.obtain)


@pytest.mark.parametrize("name", TASKS)
def test_a_complete_miniature_is_read(name, mini):
    task, root = TASKS[name], mini(name)
    table = task.read(root)
    assert Counter(table.labels["split"]) == CLIPS[name]
    assert (table.labels["task"] == name).all()
    assert table.labels["clip"].tolist() == list(range(len(table)))
    assert table.split.tolist() == table.labels["split"].tolist()
    labels = set(table.labels["label"])
    assert labels == (set(task.classes) or {str(n) for n in range(19, 270)})
    assert not [path for path in table.paths if path.name.startswith(".")]
    # The miniature differs from the true data set in nothing but its size.
    differences = task.check(root)
    assert len(differences) == len(task.published)
    assert all("not the published" in said and task.published_in in said for said in differences)


@pytest.mark.parametrize("name", TASKS)
def test_an_empty_folder_is_named(name, tmp_path):
    (problem,) = TASKS[name].check(tmp_path)
    assert problem.startswith(f"Missing: {tmp_path}")
    with pytest.raises(FileNotFoundError, match="--root names the folder"):
        TASKS[name].read(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [n for n in WRITERS if n not in ("librispeech_sid", "voxforge")])
def test_a_missing_clip_is_named(name, mini):
    # (LibriSpeech and VoxForge have no list that a missing clip would be missed by.)
    root = mini(name)
    table = TASKS[name].read(root)
    # Speech Commands' lists name validation and test clips only; noise files are folder contents.
    listed = [path for path, split in zip(table.paths, table.split, strict=True) if split == "test"]
    lost = next(path for path in listed if path.parent.name != "_background_noise_")
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of .* files are missing: {re.escape(str(lost))}"):
        TASKS[name].read(root)


def test_differences_are_stated_once_and_only_where_there_are_some():
    splits = ["train"] * 84_843 + ["validation"] * 9_981 + ["test"] * 11_004
    (said,) = TASKS["sc_v2_35"].differences(splits)
    assert said == (
        "The test split has 11,004 clips, not the published 11,005 "
        "(https://huggingface.co/datasets/google/speech_commands, less its noise files)."
    )
    assert TASKS["us8k"].differences(["test"] * 8_732) == []
    (said,) = TASKS["us8k"].differences(["test"] * 8_000)
    assert said.startswith("All splits have 8,000 clips, not the published 8,732")


@pytest.mark.parametrize("name", ["sc_v2_12", "iemocap", "voxforge", "birdsong", "tut2018", "us8k"])
def test_the_clips_can_be_heard(name, mini):
    table = TASKS[name].read(mini(name))
    clips = sl.load_clips(table, strict=True, progress=False)
    assert len(clips) == len(table)
    assert clips.tasks == [name]
    assert (clips.rows == table.labels).all(axis=None)
    assert (clips.lengths > 0).all()


# Draws that must be the same on every machine


def test_draws_are_the_names_with_the_smallest_hashes():
    names = [f"{n}.wav" for n in range(50)]
    by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    assert draw(names, 5) == draw(reversed(names), 5) == set(by_hash[:5])
    assert draw(names, 0) == set()


# Speech Commands


def test_the_rule_of_the_lists_gives_what_the_lists_say(recordings):
    # The recordings' keywords are from Speech Commands' test set; their groups are its speakers.
    known = pd.read_csv(recordings / "manifest.csv")
    speakers = set(known.loc[known["task"] == "keyword", "group"].str.removeprefix("gsc-"))
    assert len(speakers) > 100
    assert {split_by_speaker(speaker) for speaker in speakers} == {"test"}


def test_the_rule_of_the_lists_gives_what_a_few_of_their_lines_say():
    said = {split: {split_by_speaker(s) for s in names} for split, names in miniatures.SPEAKERS.items()}
    assert said == {split: {split} for split in said}


@pytest.mark.parametrize("name", ["sc_v1", "sc_v2_12", "sc_v2_35"])
def test_a_copy_without_lists_is_split_as_the_lists_would(name, mini):
    root = mini(name)
    listed = rows(TASKS[name].read(root))
    for file in root.glob("SpeechCommands/*/*_list.txt"):
        file.unlink()
    unlisted = rows(TASKS[name].read(root))
    columns = ["path", "label", "split", "group"]
    pd.testing.assert_frame_equal(
        listed[columns].sort_values(columns, ignore_index=True),
        unlisted[columns].sort_values(columns, ignore_index=True),
    )


def test_one_list_alone_is_not_enough(mini):
    root = mini("sc_v2_35")
    lost = root / "SpeechCommands/speech_commands_v0.02/testing_list.txt"
    lost.unlink()
    assert TASKS["sc_v2_35"].check(root) == [f"Missing: {lost}."]


@pytest.mark.parametrize("name", ["sc_v1", "sc_v2_12"])
def test_twelve_classes(name, mini):
    table = rows(TASKS[name].read(mini(name)))
    for split, speakers in miniatures.SPEAKERS.items():
        some = table[table["split"] == split]
        counts = Counter(some["label"])
        assert all(counts[word] == len(speakers) for word in COMMANDS)
        # A tenth of the ten words' clips, as in the data set's own test archive (4,890 = 4,074 + 2 x 408).
        assert counts[UNKNOWN] == counts[SILENCE] == len(speakers)
        unknown = some[some["label"] == UNKNOWN]
        assert not {Path(path).parent.name for path in unknown["path"]} & set(COMMANDS)
        assert set(unknown["group"]) <= set(speakers)


def test_silence_is_cut_from_disjoint_stretches(mini):
    table = TASKS["sc_v2_12"].read(mini("sc_v2_12"))
    silence = table.labels[table.labels["label"] == SILENCE]
    assert set(table.cuts) == set(silence["clip"])
    taken = {}
    for clip, split in zip(silence["clip"], silence["split"], strict=True):
        start, seconds = table.cuts[clip]
        assert seconds == 1.0
        assert 0 <= start <= miniatures.NOISE_SECONDS - seconds
        taken.setdefault((table.paths[clip], split), []).append((start, start + seconds))
    for (path, split), cuts in taken.items():
        ends = [c for (p, s), some in taken.items() if p == path and s != split for c in some]
        assert not [1 for a, b in cuts for c, d in ends if a < d and c < b]
    for (_, split), cuts in taken.items():
        low, high = {"train": (0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1)}[split]
        assert all(low * 12 - 1e-9 <= a and b <= high * 12 + 1e-9 for a, b in cuts)


def test_many_cuts_are_spread_over_the_stretch(mini):
    root = mini("sc_v2_12")
    folder = root / "SpeechCommands/speech_commands_v0.02"
    for word in COMMANDS:
        for speaker in miniatures.SPEAKERS["train"]:
            for number in range(1, 10):
                miniatures.put(folder / word / f"{speaker}_nohash_{number}.wav")
    table = TASKS["sc_v2_12"].read(root)
    silence = table.labels[(table.labels["label"] == SILENCE) & (table.labels["split"] == "train")]
    assert len(silence) == 30
    starts = [table.cuts[c][0] for c in silence["clip"] if table.paths[c].stem == "running_tap"]
    assert starts == pytest.approx(np.linspace(0, 0.6 * 12 - 1, 5))


def test_a_cut_is_that_stretch_of_its_file(mini):
    table = TASKS["sc_v2_12"].read(mini("sc_v2_12"))
    clips = sl.load_clips(table, strict=True, progress=False)
    clip, (start, seconds) = list(table.cuts.items())[-1]
    whole, rate = soundfile.read(table.paths[clip], dtype="float32")
    first = round(start * rate)
    np.testing.assert_array_equal(clips[clip], whole[first : first + round(seconds * rate)])
    # Another cut is another clip, whatever has been decoded before.
    moved = dataclasses.replace(table, cuts={**table.cuts, clip: (start - 0.25, seconds)})
    other = sl.load_clips(moved, strict=True, progress=False)[clip]
    np.testing.assert_array_equal(other[4000:], clips[clip][:-4000])


def test_a_cut_beyond_the_end_is_no_clip(mini):
    table = TASKS["sc_v2_12"].read(mini("sc_v2_12"))
    clip = next(iter(table.cuts))
    wrong = dataclasses.replace(table, cuts={**table.cuts, clip: (11.5, 1.0)})
    with pytest.raises(ValueError, match="ends after 12.00 s"):
        sl.load_clips(wrong, strict=True, progress=False)


def test_noise_that_is_too_short_damaged_or_missing_is_refused(mini):
    root = mini("sc_v1")
    folder = root / "SpeechCommands/speech_commands_v0.01/_background_noise_"
    miniatures.put(folder / "pink_noise.wav", miniatures.sound(samples=16_000))
    with pytest.raises(ValueError, match="pink_noise.wav is too short"):
        TASKS["sc_v1"].read(root)
    miniatures.put(folder / "pink_noise.wav", b"RIFF")
    with pytest.raises(ValueError, match="pink_noise.wav is not readable as audio"):
        TASKS["sc_v1"].read(root)
    for file in folder.glob("*.wav"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="silence is cut from"):
        TASKS["sc_v1"].read(root)


def test_a_speaker_in_two_splits_is_refused(mini):
    root = mini("sc_v2_35")
    edit(root / "SpeechCommands/speech_commands_v0.02/testing_list.txt", "yes/bb05582b_nohash_0.wav\n", "")
    with pytest.raises(ValueError, match="1 speakers or recordings are in the train split .*: bb05582b"):
        TASKS["sc_v2_35"].read(root)


def test_a_word_without_test_clips_is_refused(mini):
    root = mini("sc_v2_35")
    folder = root / "SpeechCommands/speech_commands_v0.02"
    for speaker in miniatures.SPEAKERS["test"]:
        edit(folder / "testing_list.txt", f"cat/{speaker}_nohash_0.wav\n", "")
        (folder / f"cat/{speaker}_nohash_0.wav").unlink()
    with pytest.raises(ValueError, match="The test split has no clip of 1 classes: cat"):
        TASKS["sc_v2_35"].read(root)


def test_version_2_wants_its_own_words(mini, tmp_path):
    miniatures.speech_commands(tmp_path, 2, WORDS_1)
    (problem,) = TASKS["sc_v2_35"].check(tmp_path)
    assert re.findall(r"/(\w+)(?:, |\.$)", problem) == ["backward", "follow", "forward", "learn", "visual"]


def test_a_clip_in_both_lists_is_refused(mini):
    root = mini("sc_v2_35")
    path = root / "SpeechCommands/speech_commands_v0.02/validation_list.txt"
    path.write_text(path.read_text() + "yes/bb05582b_nohash_0.wav\n")
    with pytest.raises(ValueError, match=r"1 clips are listed more than once: .*yes/bb05582b_nohash_0.wav"):
        TASKS["sc_v2_35"].read(root)


def test_lists_of_the_other_version_are_refused(mini):
    root = mini("sc_v1")
    path = root / "SpeechCommands/speech_commands_v0.01/testing_list.txt"
    path.write_text(path.read_text() + "visual/bb05582b_nohash_0.wav\n")
    with pytest.raises(
        ValueError, match="names 'visual/bb05582b_nohash_0.wav', which is no word of this version"
    ):
        TASKS["sc_v1"].read(root)


# LibriSpeech


def test_the_last_fifth_of_a_reading_is_held_out(mini):
    table = rows(TASKS["librispeech_sid"].read(mini("librispeech_sid")))
    first = table[table["label"] == "19"]
    test = [Path(path).stem for path in first.loc[first["split"] == "test", "path"]]
    assert test == ["19-1240-0001"]  # chapter 1240 is after 198, whatever the alphabet says
    assert (table[table["split"] == "test"].groupby("label").size() == 1).all()


def test_a_missing_speaker_is_refused(mini):
    root = mini("librispeech_sid")
    for file in (root / "LibriSpeech/train-clean-100/20/227").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="There are 250 classes, not 251"):
        TASKS["librispeech_sid"].read(root)


def test_a_strange_file_name_is_refused(mini):
    root = mini("librispeech_sid")
    miniatures.put(root / "LibriSpeech/train-clean-100/20/227/copy of 20-227-0000.flac")
    with pytest.raises(ValueError, match="not named speaker-chapter-utterance"):
        TASKS["librispeech_sid"].read(root)


# VoxCeleb1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("3 id10001/", "4 id10001/", "line 3: '4 id10001/9mQ11vBs1wc/00001.wav' should be 1, 2 or 3"),
        ("3 id10001/", "1 id10001/", "test split has no clip of 1 classes: id10001"),
        ("1 id10002/1zcIwhmdeo4/", "1 id10002/7gWzIy6yIIk/", "1 clips are listed more than once"),
    ],
)
def test_a_wrong_identification_list_is_refused(old, new, said, mini):
    root = mini("voxceleb1_sid")
    edit(root / "VoxCeleb1/iden_split.txt", old, new)
    with pytest.raises(ValueError, match=re.escape(said)):
        TASKS["voxceleb1_sid"].read(root)


def test_a_clip_that_only_the_list_has_is_named(mini):
    root = mini("voxceleb1_sid")
    edit(root / "VoxCeleb1/iden_split.txt", "1 id10007/1zcIwhmdeo4/00001", "1 id10007/1zcIwhmdeo4/00009")
    lost = root / "VoxCeleb1/wav/id10007/1zcIwhmdeo4/00009.wav"
    assert TASKS["voxceleb1_sid"].check(root)[0] == f"1 of 3,753 files are missing: {lost}."


# IEMOCAP


def test_excited_is_happy_and_disagreement_is_left_out(mini):
    table = rows(TASKS["iemocap"].read(mini("iemocap")))
    assert Counter(table["label"]) == {"neutral": 10, "happy": 10, "angry": 5, "sad": 5}
    assert set(table["group"]) == {f"Session{n}" for n in range(1, 6)}
    said = dict(zip([Path(path).stem for path in table["path"]], table["label"], strict=True))
    assert said["Ses02F_impro01_M003"] == "happy"  # exc
    assert "Ses02F_impro01_M001" not in said  # xxx


@pytest.mark.parametrize("new", ["\thapy\t", " hap "])
def test_an_unknown_emotion_is_refused(new, mini):
    root = mini("iemocap")
    path = root / "IEMOCAP_full_release/Session3/dialog/EmoEvaluation/Ses03M_script01_1b.txt"
    edit(path, "\thap\t", new)
    with pytest.raises(ValueError, match="Ses03M_script01_1b.txt.*should hold time, turn and emotion"):
        TASKS["iemocap"].read(root)


def test_a_session_without_an_emotion_is_refused(mini):
    root = mini("iemocap")
    edit(root / "IEMOCAP_full_release/Session4/dialog/EmoEvaluation/Ses04F_impro01.txt", "\tang\t", "\tneu\t")
    with pytest.raises(ValueError, match="The fold Session4 has no clip of 1 classes: angry"):
        TASKS["iemocap"].read(root)


# VoxForge


def test_speakers_stay_together_whatever_they_speak(mini):
    table = rows(TASKS["voxforge"].read(mini("voxforge")))
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert set(table.loc[table["group"] == "anonymous", "split"]) == {"train"}
    assert (table.groupby("group")["label"].nunique() == 6).all()
    assert {Path(path).suffix for path in table["path"]} == {".wav", ".flac"}


def test_voxforge_names():
    assert voxforge_speaker("1028-20100710-hne") == "1028"
    assert voxforge_speaker("Joel-S-20080716-hsf") == "Joel-S"
    shares = Counter(split_of_speaker(f"user{n}") for n in range(5000))
    assert shares["test"] / 5000 == pytest.approx(0.2, abs=0.02)
    assert shares["validation"] / 5000 == pytest.approx(0.1, abs=0.02)


def test_packed_archives_are_named(mini):
    root = mini("voxforge")
    miniatures.put(root / "VoxForge/it/Mario-20090101-abc.tgz", b"packed")
    with pytest.raises(FileNotFoundError, match="1 archives in .*it are not unpacked.*tar xzf"):
        TASKS["voxforge"].read(root)
    miniatures.put(root / "VoxForge/it/Mario-20090101-abc/wav/it-0001.wav")
    assert "Mario" in set(TASKS["voxforge"].read(root).labels["group"])


# NSynth


def test_an_instrument_in_two_splits_is_refused(mini):
    root = mini("nsynth")
    path = root / "nsynth-test/examples.json"
    edit(path, '"instrument_str": "bass_electronic_200"', '"instrument_str": "bass_electronic_000"')
    with pytest.raises(ValueError, match="1 speakers or recordings .*: bass_electronic_000"):
        TASKS["nsynth"].read(root)


def test_synth_lead_may_be_absent_outside_train_only(mini):
    root = mini("nsynth")
    path = root / "nsynth-train/examples.json"
    notes = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in notes.items() if "synth_lead" not in k}))
    with pytest.raises(ValueError, match="The train split has no clip of 1 classes: synth_lead"):
        TASKS["nsynth"].read(root)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"bass_0": {"pitch": 60', "not readable as JSON"),
        ("[1, 2]", "should map each note's name"),
        ('{"bass_0": {"pitch": 60}}', "the note 'bass_0' lacks 'instrument_family_str'"),
    ],
)
def test_a_damaged_note_list_is_refused(text, said, mini):
    root = mini("nsynth")
    (root / "nsynth-valid/examples.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        TASKS["nsynth"].read(root)


# freefield1010 and warblr


def test_birds_are_held_out_in_each_set_alike(mini):
    table = rows(TASKS["birdsong"].read(mini("birdsong")))
    sets = table["path"].str.extract(r"(ff1010bird|warblrb10k_public)/wav")[0]
    counts = table.groupby([sets, "label", "split"]).size()
    for folder in ("ff1010bird", "warblrb10k_public"):
        assert counts[folder].to_dict() == {
            ("bird", "test"): 1, ("bird", "train"): 4, ("no bird", "test"): 3, ("no bird", "train"): 12,
        }  # fmt: skip


def test_a_wrong_bird_table_is_refused(mini):
    root = mini("birdsong")
    path = root / "ff1010bird/ff1010bird_metadata_2018.csv"
    edit(path, "57,ff1010bird,0", "57,ff1010bird,")
    with pytest.raises(ValueError, match="hasbird is '' somewhere"):
        TASKS["birdsong"].read(root)
    edit(path, "itemid,datasetid,hasbird", "itemid,hasbird_")
    with pytest.raises(ValueError, match="lacks the column"):
        TASKS["birdsong"].read(root)


# TUT 2018


def test_a_place_in_both_halves_is_refused(mini):
    root = mini("tut2018")
    edit(root / miniatures.TUT / "meta.csv", "\tparis-14\t", "\thelsinki-13\t")
    with pytest.raises(ValueError, match="1 speakers or recordings .*: helsinki-13"):
        TASKS["tut2018"].read(root)


def test_a_clip_that_meta_csv_lacks_is_refused(mini):
    root = mini("tut2018")
    edit(
        root / miniatures.TUT / "evaluation_setup/fold1_train.txt",
        "audio/bus-barcelona-3-",
        "audio/bus-lyon-3-",
    )
    with pytest.raises(ValueError, match="names 'audio/bus-lyon-3-90-a.wav', which meta.csv does not list"):
        TASKS["tut2018"].read(root)


def test_an_unknown_scene_is_refused(mini):
    root = mini("tut2018")
    edit(root / miniatures.TUT / "evaluation_setup/fold1_evaluate.txt", "\tpark", "\tparc")
    with pytest.raises(ValueError, match=r"Unknown classes: parc.*test split has no clip of 1 classes: park"):
        TASKS["tut2018"].read(root)


# UrbanSound8K


def test_each_fold_is_tested_once(mini):
    task = TASKS["us8k"]
    table = task.read(mini("us8k"))
    tested = []
    names = []
    for fold, part in task.rounds(table.labels):
        names.append(fold)
        assert Counter(part["split"]) == {"train": 90, "test": 10}
        test = part.loc[part["split"] == "test", "clip"]
        assert {table.paths[c].parent.name for c in test} == {f"fold{fold}"}
        tested += test.tolist()
    assert names == [str(n) for n in range(1, 11)]
    assert sorted(tested) == list(range(100))


def test_a_task_of_one_split_has_one_round(mini):
    task = TASKS["tut2018"]
    table = task.read(mini("tut2018"))
    ((name, part),) = task.rounds(table.labels)
    assert name == ""
    assert part is table.labels


def test_clips_of_ones_own_under_the_name_of_a_task_of_folds_keep_their_splits(mini):
    task = TASKS["us8k"]
    labels = task.read(mini("us8k")).labels
    own = labels.assign(split=["train" if i % 4 else "test" for i in range(len(labels))])
    ((name, part),) = task.rounds(own)
    assert name == ""
    assert part is own


def test_a_missing_fold_is_refused(mini):
    root = mini("us8k")
    path = root / "UrbanSound8K/metadata/UrbanSound8K.csv"
    kept = [line for line in path.read_text().splitlines() if ",10," not in line]
    path.write_text("\n".join(kept))
    with pytest.raises(ValueError, match="There are 9 folds, not 10"):
        TASKS["us8k"].read(root)


def test_a_table_that_is_none_is_refused(mini):
    root = mini("us8k")
    path = root / "UrbanSound8K/metadata/UrbanSound8K.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UrbanSound8K.csv cannot be read as a table"):
        TASKS["us8k"].read(root)


# Downloads


@pytest.fixture
def served(tmp_path):
    """A folder that a local web server offers, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def packed(source, file):
    with tarfile.open(file, "w:gz") as tar:
        for path in sorted(source.iterdir()):
            tar.add(path, path.name)
    return f"md5:{hashlib.md5(file.read_bytes()).hexdigest()}"


def test_a_download_is_checked_unpacked_and_read(served, tmp_path, monkeypatch, capsys):
    folder, address = served
    miniatures.us8k(tmp_path / "source")
    checksum = packed(tmp_path / "source", folder / "UrbanSound8K.tar.gz")
    here = dataclasses.replace(
        TASKS["us8k"], archives=(Archive(f"{address}/UrbanSound8K.tar.gz", checksum),), published={}
    )
    monkeypatch.setitem(TASKS, "us8k", here)
    main(["lape", "download", "us8k", "--root", str(tmp_path / "data")])
    assert "us8k: complete." in capsys.readouterr().out
    assert len(here.read(tmp_path / "data")) == 100
    # Nothing is fetched for a data set that is complete.
    (tmp_path / "data/downloads").rename(tmp_path / "elsewhere")
    main(["lape", "download", "us8k", "--root", str(tmp_path / "data")])
    assert not (tmp_path / "data/downloads").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "data/downloads")
    # What was lost is restored from the archive that was kept, without the network.
    (tmp_path / "data/UrbanSound8K/metadata/UrbanSound8K.csv").unlink()
    (folder / "UrbanSound8K.tar.gz").unlink()
    here.download(tmp_path / "data")
    assert here.check(tmp_path / "data") == []


@pytest.mark.parametrize("damage", [lambda content: b"<html>404</html>", lambda content: content[:-3000]])
def test_a_damaged_archive_without_a_checksum_is_named(served, tmp_path, damage):
    folder, address = served
    miniatures.us8k(tmp_path / "source")
    packed(tmp_path / "source", folder / "a.tar.gz")
    (folder / "a.tar.gz").write_bytes(damage((folder / "a.tar.gz").read_bytes()))
    with pytest.raises(ValueError, match=r"a.tar.gz is damaged: delete it, and repeat the command"):
        fetch([Archive(f"{address}/a.tar.gz")], tmp_path / "data")


def test_a_damaged_download_is_refused(served, tmp_path):
    folder, address = served
    (folder / "a.tar.gz").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="does not match the known hash"):
        fetch([Archive(f"{address}/a.tar.gz", "md5:9aa69802bbf37fb986f71ec1483a196e")], tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.tar.gz"))


def test_plain_files_are_put_under_their_names(served, tmp_path):
    folder, address = served
    (folder / "10853303").write_text("itemid,datasetid,hasbird\n")
    fetch([Archive(f"{address}/10853303", folder="ff1010bird", name="m.csv")], tmp_path / "data")
    assert (tmp_path / "data/ff1010bird/m.csv").read_text() == "itemid,datasetid,hasbird\n"


def test_an_unreachable_server_is_a_sentence(tmp_path, capsys, monkeypatch):
    here = dataclasses.replace(TASKS["us8k"], archives=(Archive("http://127.0.0.1:9/UrbanSound8K.tar.gz"),))
    monkeypatch.setitem(TASKS, "us8k", here)
    with pytest.raises(SystemExit) as ended:
        main(["lape", "download", "us8k", "--root", str(tmp_path)])
    assert ended.value.code == 1
    assert "http://127.0.0.1:9/UrbanSound8K.tar.gz" in capsys.readouterr().err


def test_all_that_can_be_is_downloaded_and_the_rest_explained(tmp_path, capsys, monkeypatch):
    fetched = []
    monkeypatch.setattr("slicer_lite.lape.tasks.task.fetch", lambda archives, root: fetched.extend(archives))
    with pytest.raises(SystemExit) as ended:
        main(["lape", "download", "all", "--root", str(tmp_path)])
    assert ended.value.code == 1  # nothing is there after all
    assert fetched == [archive for task in TASKS.values() for archive in task.archives]
    assert "iemocap: Ask for a copy at" in capsys.readouterr().out


def test_what_must_be_asked_for_is_not_downloaded(tmp_path):
    for name in ("iemocap", "voxceleb1_sid", "voxforge"):
        with pytest.raises(ValueError, match=r"cannot be downloaded automatically\. .*docs/lape\.md"):
            TASKS[name].download(tmp_path)


# The command line


def test_list_shows_every_task(capsys):
    main(["lape", "list"])
    said = capsys.readouterr().out
    for task in TASKS.values():
        assert f"{task.id}: " in said
        assert task.licence in said


def test_check_says_what_is_missing_and_how_to_get_it(mini, capsys):
    root = mini("tut2018")
    lost = root / miniatures.TUT / "evaluation_setup/fold1_train.txt"
    lost.unlink()
    with pytest.raises(SystemExit) as ended:
        main(["lape", "check", "tut2018", "voxceleb1_sid", "--root", str(root)])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert f"- Missing: {lost}." in said
    assert f"slicer-lite lape download tut2018 --root {root}" in said
    assert "Ask for a copy at https://www.robots.ox.ac.uk" in said


def test_tasks_by_name():
    assert find_tasks(["all"]) == list(TASKS.values())
    assert [task.id for task in find_tasks(["us8k", "sc_v1"])] == ["us8k", "sc_v1"]
    for names in ([], ["us8k", "esc50"]):
        with pytest.raises(ValueError, match="the tasks are sc_v1, .*us8k, or all"):
            find_tasks(names)


# The page for users


def test_the_page_says_what_the_code_says():
    page = " ".join((Path(__file__).parents[2] / "docs" / "lape.md").read_text().split())
    for task in TASKS.values():
        assert f"## {task.id}" in page
        for text in (task.source, task.licence, task.layout, task.split):
            assert " ".join(text.split()) in page, f"{task.id}: {text}"
        for count in task.published.values():
            assert f"{count:,}" in page


def test_hidden_folders_of_a_data_set_are_not_searched(tmp_path):
    for folder in (".Trash-1000", "ann"):
        (tmp_path / folder).mkdir()
        for name in ("a.wav", "._a.wav"):
            (tmp_path / folder / name).write_bytes(b"")
    assert files_below(tmp_path, {".wav"}, depth=1) == [tmp_path / "ann" / "a.wav"]
