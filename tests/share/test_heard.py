"""What weights have heard travels with them, and `lape run` says so where a task's clips are among it."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import slicer_lite as sl
from slicer_lite.cli import main
from slicer_lite.config import WINDOW
from slicer_lite.lape.run import heard_of_task
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share import heard
from slicer_lite.share.heard import Heard, mark_of_name, marks_of_sounds
from slicer_lite.share.weights import SHIPPED, save_weights, shipped


def noise(number, length=20_000):
    return 0.1 * np.random.default_rng(number).uniform(-1, 1, length).astype(np.float32)


@given(
    st.sets(st.binary(min_size=5, max_size=5), max_size=9),
    st.sets(st.binary(min_size=5, max_size=5), max_size=9),
)
def test_a_note_is_plain_text_and_comes_back(sounds, names):
    note = Heard(12, 9, frozenset(sounds), frozenset(names))
    assert Heard.from_dict(json.loads(json.dumps(note.to_dict()))) == note


def test_a_sound_is_known_by_every_sample_of_a_short_clip_and_by_length_start_middle_and_end_of_a_long_one():
    short = noise(0, 100)
    changed = [short, short.copy(), np.append(short, np.float32(0))]
    changed[1][50] += 0.01
    long = noise(1, 10 * WINDOW)
    for at in (0, 5 * WINDOW, 10 * WINDOW - 1):
        other = long.copy()
        other[at] += 0.01
        changed.append(other)
    unseen = long.copy()
    unseen[2 * WINDOW] += 0.01
    marks = marks_of_sounds(sl.load_clips([*changed, long]))
    assert len(set(marks)) == len(marks)
    assert marks_of_sounds(sl.load_clips([long, unseen])) == [marks[-1]] * 2


def test_a_name_is_the_file_and_its_folder():
    known = mark_of_name("SpeechCommands/speech_commands_v0.02/yes/0a7c2a8d_nohash_0.wav")
    assert mark_of_name(Path("elsewhere", "yes", "0a7c2a8d_nohash_0.flac")) == known
    assert mark_of_name("no/0a7c2a8d_nohash_0.wav") != known
    assert mark_of_name("yes/0a7c2a8d_nohash_1.wav") != known


def test_of_many_clips_some_are_noted(monkeypatch):
    monkeypatch.setattr(heard, "NOTED", 5)
    clips = sl.load_clips([noise(number) for number in range(12)])
    note = Heard.of(clips)
    assert (note.clips, note.noted, len(note.sounds)) == (12, 5, 5)
    by_sound, by_name = note.among(clips)
    assert by_sound.sum() == 5
    assert by_sound[[0, -1]].all()
    assert not by_name.any()


def test_a_note_takes_few_kilobytes():
    marks = frozenset(number.to_bytes(5, "big") for number in range(heard.NOTED))
    assert len(json.dumps(Heard(10**6, heard.NOTED, marks).to_dict())) < 28_000


@pytest.fixture(scope="module")
def run(tones, minute, tmp_path_factory):
    """A run on a table that calls two of the test clips train, and has no names of tasks."""
    folder = tmp_path_factory.mktemp("leak")
    rows = pd.read_csv(tones / "manifest.csv")
    rows.loc[rows.index[-2:], "split"] = "train"
    rows["path"] = [str(tones / name) for name in rows["path"]]
    rows[["path", "split"]].to_csv(folder / "list.csv", index=False)
    clips = sl.load_clips(folder / "list.csv", allow_outside=True, progress=False)
    sl.pretrain(minute, clips, folder / "run", steps=2, progress=False)
    return folder / "run"


def test_a_run_notes_what_it_has_heard_in_all_its_weights(run, tones):
    clips = sl.load_clips(tones, progress=False)
    for path in (run, *(run / "snapshots").glob("*.safetensors")):
        by_sound, _ = sl.load(path).heard.among(clips)
        assert by_sound.tolist() == [*[True] * 32, *[False] * 14, True, True]


def lape(weights, data, out, *more):
    """The command, whose warnings are notes."""
    quick = ["--protocol", "quick", "--seeds", "0", "--baselines", "majority"]
    run = ["lape", "run", "--weights", str(weights), "--data", str(data), "--out", str(out)]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main([*run, *quick, *more])


def test_lape_run_says_which_test_clips_were_heard(run, tones, tmp_path, capsys):
    lape(run, tones, tmp_path / "out")
    said = capsys.readouterr()
    assert (
        "Note: pitch: in pre-training, without their labels, these weights have heard 2 of its 16 test clips and "
        "32 of its 32 train clips." in said.err
    )
    found = json.loads((tmp_path / "out" / "pitch.json").read_text())["about"]["weights"]["heard"]
    assert found["test"] == {"clips": 16, "heard": 2, "by_name": 0}
    lape(run, tones, tmp_path / "out")  # also where it is done already
    assert "2 of its 16 test clips" in capsys.readouterr().err


def test_train_clips_alone_are_no_reason_for_a_note(run, tones, tmp_path, capsys):
    rows = pd.read_csv(tones / "manifest.csv")
    rows["path"] = [str(tones / name) for name in rows["path"]]
    rows[:-2].to_csv(tmp_path / "list.csv", index=False)
    lape(run, tmp_path / "list.csv", tmp_path / "out", "--allow-outside")
    said = capsys.readouterr()
    assert "heard 32 of its 32 train clips" in said.out
    assert "have heard" not in said.err


def test_of_weights_without_a_note_nothing_is_said(tones, tmp_path, minute, capsys):
    save_weights(tmp_path / "w.safetensors", SLICERNetwork(minute), None, minute, 7)
    lape(tmp_path / "w.safetensors", tones, tmp_path / "out")
    assert "have heard" not in "".join(capsys.readouterr())
    assert json.loads((tmp_path / "out" / "pitch.json").read_text())["about"]["weights"]["heard"] is None


def test_weights_that_have_heard_other_clips_are_quiet(tones, tmp_path, minute, capsys):
    note = Heard.of(sl.load_clips([noise(number) for number in range(9)]))
    save_weights(tmp_path / "w.safetensors", SLICERNetwork(minute), None, minute, 7, note)
    lape(tmp_path / "w.safetensors", tones, tmp_path / "out")
    assert "have heard" not in "".join(capsys.readouterr())
    found = json.loads((tmp_path / "out" / "pitch.json").read_text())["about"]["weights"]["heard"]
    assert [of["heard"] for of in found.values()] == [0, 0]


def test_where_some_clips_alone_are_noted_the_count_is_a_lower_bound(tones, tmp_path, minute, capsys):
    clips = sl.load_clips(tones, progress=False)
    note = Heard(1_000_000, 3, frozenset(marks_of_sounds(clips.subset(np.array([0, 40, 41])))))
    save_weights(tmp_path / "w.safetensors", SLICERNetwork(minute), None, minute, 7, note)
    lape(tmp_path / "w.safetensors", tones, tmp_path / "out")
    said = capsys.readouterr().err
    assert "heard at least 2 of its 16 test clips and at least 1 of its 32 train clips" in said
    assert "(3 of the 1,000,000 clips that they have heard are noted)" in said


def test_in_a_task_of_folds_every_clip_is_a_test_clip(tones):
    clips = sl.load_clips(tones, progress=False)
    rows = clips.rows.assign(task="us8k", split="test", group=[f"fold{1 + n % 10}" for n in range(48)])
    clips.rows = rows
    found = heard_of_task(Heard.of(clips.subset(np.arange(12))), clips, "us8k")
    assert found == {"test": {"clips": 48, "heard": 12, "by_name": 0}}


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_know_the_test_clips_of_speech_commands_that_they_have_heard(name, tmp_path, capsys):
    """By their names: they were cut before they were heard."""
    card = (SHIPPED / f"{name}.md").read_text()
    assert "350 of the 11,005 test clips of Speech Commands v2" in " ".join(card.split())
    rows = []
    words = {
        "down": ("189cbabe_nohash_1", "0a7c2a8d_nohash_9"),
        "up": ("0a7c2a8d_nohash_8", "0a7c2a8d_nohash_7"),
    }
    for split in ("test", "train"):
        for word, files in words.items():
            for file in files:
                path = tmp_path / "data" / word / f"{file if split == 'test' else file[::-1]}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, noise(len(rows), 16_000), 16_000)
                rows.append([f"{word}/{path.name}", word, split])
    pd.DataFrame(rows, columns=["path", "label", "split"]).to_csv(
        tmp_path / "data" / "manifest.csv", index=False
    )
    lape(name, tmp_path / "data", tmp_path / "out")
    said = capsys.readouterr().err
    assert "heard 1 of its 4 test clips; " in said
    assert "1 of them is known by its name alone" in said


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_have_heard_what_their_cards_list(name, recordings):
    listed = (SHIPPED / f"{name}.md").read_text().partition("## Recordings used\n")[2].strip().split(", ")
    manifest = pd.read_csv(recordings / "manifest.csv").drop_duplicates("path")
    clips = sl.load_clips(recordings, progress=False)
    note = sl.load(name).heard
    by_sound, _ = note.among(clips)
    found = {
        path.relative_to(recordings).as_posix()
        for path, is_in in zip(clips.paths, by_sound, strict=True)
        if is_in
    }
    assert found == set(listed)
    assert note.clips == note.noted == 1984 + len(listed)
    assert len(manifest) > len(listed)


@pytest.mark.parametrize("name", shipped())
def test_the_note_of_shipped_weights_takes_few_kilobytes(name):
    with safetensors.safe_open(SHIPPED / f"{name}.safetensors", "pt") as file:
        assert len(file.metadata()["slicer-lite"]) < 25_000


@pytest.mark.parametrize(
    "change",
    [
        lambda note: [],
        lambda note: note | {"clips": "many"},
        lambda note: note | {"sounds": "!"},
        lambda note: note | {"sounds": 3},
        lambda note: {},
    ],
)
def test_a_note_that_cannot_be_read_is_said_and_does_not_cost_the_weights(
    tmp_path, minute, monkeypatch, change
):
    monkeypatch.setattr(
        Heard, "to_dict", lambda self: change({"clips": 1, "noted": 1, "sounds": "", "names": ""})
    )
    save_weights(tmp_path / "w.safetensors", SLICERNetwork(minute), None, minute, 7, Heard(1, 1, frozenset()))
    with pytest.warns(UserWarning, match=r"w\.safetensors: the note of what .* cannot be read"):
        assert sl.load(tmp_path / "w.safetensors").heard is None


def test_what_was_heard_stays_with_weights_that_are_written_anew(run, tmp_path):
    known = sl.load(run).heard
    main(["export", "--weights", str(run), "--out", str(tmp_path / "ours.safetensors")])
    assert sl.load(tmp_path / "ours.safetensors").heard == known
    main(["export", "--weights", str(run), "--out", str(tmp_path / "theirs.ckpt")])
    main(["export", "--weights", str(tmp_path / "theirs.ckpt"), "--out", str(tmp_path / "back.safetensors")])
    assert sl.load(tmp_path / "back.safetensors").heard == known
    hub = pytest.importorskip("slicer_lite.share.hub", reason="needs the extra `hub`")
    hub.HubModel.of(sl.load(run)).save_pretrained(tmp_path / "hub")
    assert hub.HubModel.from_pretrained(tmp_path / "hub").pretrained.heard == known
