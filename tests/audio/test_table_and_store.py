"""From files of any kind to windows: nothing is lost, nothing is invented."""

import os
import shutil
import time
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import slicer_lite as sl
from slicer_lite.audio.decode import decode, decode_into
from slicer_lite.audio.store import Clips, _sampled, _write_index
from slicer_lite.audio.table import make_table, read_table
from slicer_lite.config import WINDOW
from slicer_lite.probe.features import window_features
from slicer_lite.sounds import make_sounds


def tone(seconds=1.0, rate=16_000, pitch=440.0, level=0.5):
    return level * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.wav", 16_000, 1, "PCM_16"),
        ("a.wav", 16_000, 1, "PCM_U8"),
        ("a.wav", 44_100, 2, "PCM_24"),
        ("a.wav", 192_000, 1, "FLOAT"),
        ("a.wav", 8_000, 7, "PCM_16"),
        ("a.flac", 22_050, 2, "PCM_16"),
        ("a.ogg", 48_000, 1, "VORBIS"),
        ("a.mp3", 44_100, 2, "MPEG_LAYER_III"),
        ("a.aiff", 16_000, 1, "PCM_16"),
    ],
)
def test_every_format_rate_and_channel_count_gives_the_same_tone(tmp_path, name, rate, channels, subtype):
    soundfile.write(tmp_path / name, np.tile(tone(1.0, rate)[:, None], channels), rate, subtype=subtype)
    samples = decode(tmp_path / name)
    assert len(samples) == pytest.approx(16_000, abs=2400)  # mp3 pads
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * 16_000 / len(samples) == pytest.approx(440, abs=1.5)
    assert np.sqrt(np.mean(samples[4000:12_000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


def test_a_rate_that_nobody_uses_is_resampled_too(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1.0, 44_101), 44_101)
    samples = decode(tmp_path / "a.wav")
    assert len(samples) == 16_000
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() == 440


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(), np.zeros(16_000)], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav"), tone() / 2, atol=1e-6)


def test_a_peak_above_full_scale_is_scaled_down_not_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(level=3.0), 16_000, subtype="FLOAT")
    samples = decode(tmp_path / "a.wav")
    np.testing.assert_allclose(samples, tone(level=1.0), atol=1e-3)


@given(lengths=st.lists(st.integers(1, 40_000), min_size=1, max_size=6), seed=st.integers(0, 100))
def test_clips_come_back_as_they_went_in(lengths, seed):
    rng = np.random.default_rng(seed)
    waveforms = [rng.uniform(-1, 1, n).astype(np.float32) for n in lengths]
    clips = Clips.from_waveforms(waveforms)
    for number, waveform in enumerate(waveforms):
        np.testing.assert_allclose(clips[number], waveform, atol=1 / 32768)
    for number, waveform in enumerate(waveforms):
        room = int(clips.room[number])
        assert room == max(len(waveform) - WINDOW, 0)
        window = clips.windows(np.array([number]), np.array([room]))[0].numpy() / 32768
        if room:
            np.testing.assert_allclose(window, waveform[-WINDOW:], atol=1 / 32768)
        else:
            lead = (WINDOW - len(waveform)) // 2
            np.testing.assert_allclose(window[lead : lead + len(waveform)], waveform, atol=1 / 32768)
            assert not window[:lead].any()
            assert not window[lead + len(waveform) :].any()


def test_a_folder_without_manifest_is_searched_through(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.wav", "deep/a.flac", "deep/er/c.WAV"):
        soundfile.write(tmp_path / name, tone(), 16_000, format="FLAC" if "flac" in name else "WAV")
    (tmp_path / "notes.txt").write_text("no audio")
    clips = sl.load_clips(tmp_path)
    assert [path.name for path in clips.paths] == ["b.wav", "a.flac", "c.WAV"]
    assert clips.tasks == []
    assert len(clips.for_pretraining()) == 3


def test_lape_csv(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    for column in ("files", "wav", "wav_path"):
        (tmp_path / f"{column}.csv").write_text(f"{column},label\na.wav,happy\n")
        clips = sl.load_clips(tmp_path / f"{column}.csv")
        assert clips.labels("label").tolist() == ["happy"]


@pytest.mark.filterwarnings("ignore:.*1 group")
def test_one_clip_with_several_tasks_and_a_split_for_each(tmp_path):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", tone(), 16_000)
    (tmp_path / "manifest.csv").write_text(
        "path,task,label,split,group\n"
        "a.wav,word,yes,train,s1\na.wav,voice,ann,train,s1\n"
        "b.wav,word,no,,s1\nb.wav,voice,bob,test,s1\nc.wav,word,no,train,s2\n"
    )
    clips = sl.load_clips(tmp_path)
    assert clips.tasks == ["word", "voice"]
    assert clips.labels("voice").tolist() == ["ann", "bob", ""]
    assert clips.split.tolist() == ["train", "test", "train"]  # what any task tests on is never trained on
    part = clips.for_pretraining()
    assert [path.name for path in part.paths] == ["a.wav", "c.wav"]
    assert part.labels("word").tolist() == ["yes", "no"]
    np.testing.assert_array_equal(part[1], clips[2])
    with pytest.raises(ValueError, match="the tasks are word, voice"):
        clips.labels("colour")


def test_windows_paths_byte_order_mark_and_spaces(tmp_path):
    (tmp_path / "d").mkdir()
    soundfile.write(tmp_path / "d" / "ä é.wav", tone(), 16_000)
    (tmp_path / "list.csv").write_bytes(b"\xef\xbb\xbfpath, label\r\nd\\\xc3\xa4 \xc3\xa9.wav, x\r\n")
    clips = sl.load_clips(tmp_path / "list.csv")
    assert clips.labels("label").tolist() == ["x"]


def test_the_store_is_made_once_and_anew_when_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data" / "a.wav", tone(pitch=440), 16_000)
    first = sl.load_clips(tmp_path / "data")[0]
    stores = tmp_path / "cache" / "stores"
    assert len(list(stores.iterdir())) == 1
    sl.load_clips(tmp_path / "data")
    assert len(list(stores.iterdir())) == 1
    soundfile.write(tmp_path / "data" / "a.wav", tone(pitch=880), 16_000)
    os.utime(tmp_path / "data" / "a.wav", ns=(1, 1))
    assert not np.array_equal(sl.load_clips(tmp_path / "data")[0], first)


def two_labelled(folder):
    folder.mkdir()
    for name in ("ä 1.wav", "b.wav"):
        soundfile.write(folder / name, tone(), 16_000)
    (folder / "bad.wav").write_bytes(b"")
    rows = (
        "ä 1.wav,word,yes,train,s1\nbad.wav,word,yes,train,s1\nb.wav,word,no,test,s2\nb.wav,voice,ann,,s2\n"
    )
    (folder / "manifest.csv").write_text("path,task,label,split,group\n" + rows)


@pytest.mark.filterwarnings("ignore:1 of 3 files")
def test_a_store_opens_by_its_own_path_without_the_files_it_was_made_from(tmp_path, monkeypatch):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    two_labelled(tmp_path / "data")
    clips = sl.load_clips(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    again = sl.load_clips(clips.store)
    np.testing.assert_array_equal(again[1], clips[1])
    paths = [tmp_path / "data" / "ä 1.wav", tmp_path / "data" / "b.wav"]
    assert list(again.paths) == list(clips.paths) == paths
    assert again.split.tolist() == clips.split.tolist() == ["train", "test"]
    pd.testing.assert_frame_equal(again.rows, clips.rows, check_dtype=False)
    assert again.labels("voice").tolist() == ["", "ann"]
    assert again.skipped == clips.skipped
    assert again.paths[-1:][0].name == "b.wav"
    assert list(again.for_pretraining().paths) == paths[:1]


@pytest.mark.filterwarnings("ignore:1 of 3 files")
def test_new_labels_need_no_new_decoding(tmp_path, monkeypatch):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    two_labelled(tmp_path / "data")
    store = sl.load_clips(tmp_path / "data").store
    manifest = tmp_path / "data" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("yes,train", "no,test"))
    clips = sl.load_clips(tmp_path / "data")
    assert clips.store == store
    assert clips.labels("word").tolist() == ["no", "no"]
    assert clips.split.tolist() == ["test", "test"]


@pytest.mark.slow
def test_a_store_of_a_million_clips_opens_in_little_memory(tmp_path):
    count = 1_000_000
    paths = [f"/data/speech/train/{number // 1000:04d}/{number:07d}.flac" for number in range(count)]
    number = pd.Series(np.arange(count))
    rows = pd.DataFrame(
        {"clip": number, "task": "word", "label": (number % 35).astype(str), "split": "train"}
    )
    rows["group"] = (number // 50).astype(str)
    _write_index(tmp_path, make_table(paths, rows), np.arange(count), np.full(count, WINDOW))
    (tmp_path / "skipped.json").write_text("[]")
    with (tmp_path / "waveforms.i16").open("wb") as file:
        file.truncate(2 * WINDOW * count)  # 30 GB of silence that take no room
    del paths, rows
    tracemalloc.start()
    clips = sl.load_clips(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(clips) == count
    assert peak < 200 * count  # bytes
    assert clips.paths[987_654].name == "0987654.flac"
    assert clips.windows(np.array([987_654]), np.array([0])).shape == (1, WINDOW)


def test_an_interrupted_decoding_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data" / "a.wav", tone(), 16_000)

    def interrupted(path, cut):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("slicer_lite.audio.store._decoded", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sl.load_clips(tmp_path / "data")
    assert list((tmp_path / "cache" / "stores").iterdir()) == []
    assert len(sl.load_clips(tmp_path / "data")) == 1


@pytest.mark.parametrize(("name", "left"), [("waveforms.i16", -100), ("index.npz", -100), ("index.npz", 0)])
def test_a_damaged_store_is_named(tmp_path, monkeypatch, name, left):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data" / "a.wav", tone(), 16_000)
    sl.load_clips(tmp_path / "data")
    (file,) = (tmp_path / "cache" / "stores").glob(f"*/{name}")
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ValueError, match="damaged.*delete that folder"):
        sl.load_clips(tmp_path / "data")


def test_the_real_recordings_are_read_whole(recordings):
    table = read_table(recordings)
    clips = sl.load_clips(recordings, progress=False)
    assert len(clips) == len(table) == 3151
    assert len(clips.for_pretraining()) == 2270
    assert len(clips.tasks) == 9
    assert torch.isfinite(torch.from_numpy(clips[0])).all()


def test_windows_cut_on_a_device_are_the_same():
    clips = sl.Clips.from_waveforms(
        [np.random.default_rng(n).uniform(-1, 1, n) for n in (100, 15_200, 40_000)]
    )
    which, starts = np.array([2, 0, 1, 2]), np.array([7, 0, 0, 24_800])
    there = clips.on(torch.device("cpu"))
    assert torch.equal(there.windows(which, starts), clips.windows(which, starts))
    assert torch.equal(
        there.subset(which[:1]).windows(which[:1] * 0, starts[:1]), clips.windows(which[:1], starts[:1])
    )
    assert clips.nbytes == 2 * 3 * 15_200 + 2 * (40_000 - 15_200)


def test_a_clip_is_described_by_its_labels_or_its_file(tones, tmp_path):
    clips = sl.load_clips(tones, progress=False)
    assert clips.describe(0) == "pitch low"
    assert clips.subset(np.array([1])).describe(0) == "pitch high"
    soundfile.write(tmp_path / "dog.wav", np.full(16_000, 0.1), 16_000)
    assert sl.load_clips(tmp_path, progress=False).describe(0) == "dog.wav"
    assert sl.load_clips([np.full(16_000, 0.1)]).describe(0) == "clip 0"


def test_an_index_alone_makes_no_store(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    np.savez(tmp_path / "index.npz", something=np.zeros(3))
    assert len(sl.load_clips(tmp_path, progress=False)) == 1


def test_only_what_can_be_made_again_may_be_deleted(tmp_path):
    for name in ("index.npz", "waveforms.i16"):
        (tmp_path / name).write_bytes(b"somebody's")
    with pytest.raises(ValueError, match="is damaged") as said:
        sl.load_clips(tmp_path, progress=False)
    assert "delete" not in str(said.value)


def test_a_file_that_was_skipped_is_read_once_it_can_be(tmp_path, monkeypatch):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", tone(), 16_000)
    able = False

    def read(file, path, cut=None):
        if path.name == "b.wav" and not able:
            raise ValueError("the network is down")
        return decode_into(file, path, cut)

    monkeypatch.setattr("slicer_lite.audio.store.decode_into", read)
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 of 2 files could not be read.*b.wav: the network is down"):
            before = sl.load_clips(tmp_path, progress=False)
        assert [path.name for path in before.paths] == ["a.wav"]
    able = True
    after = sl.load_clips(tmp_path, progress=False)
    assert [path.name for path in after.paths] == ["a.wav", "b.wav"]
    np.testing.assert_array_equal(before[0], after[0])  # who has the old store open keeps it
    assert after.store == before.store
    assert sorted(after.store.parent.glob("*unfinished*")) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_who_shares_the_cache_may_read_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    clips = Clips.from_waveforms([tone()])
    window_features(None, clips)
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    store = sl.load_clips(tmp_path, progress=False).store
    for path in [store, *store.iterdir(), *(tmp_path / "cache" / "features").iterdir()]:
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "file"))
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    with pytest.raises(OSError, match=r"file.*SLICER_LITE_CACHE moves it"):
        sl.load_clips(tmp_path, progress=False)
    with pytest.raises(OSError, match=r"file.*SLICER_LITE_CACHE moves it"):
        window_features(None, Clips.from_waveforms([tone()]))


def test_one_file_under_two_names_is_one_clip(tmp_path):
    (tmp_path / "sub").mkdir()
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    names = ["a.wav,word,yes,train", "./a.wav,voice,ann,test", "sub/../a.wav,word,yes,train"]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,task,label,split", *names]))
    clips = sl.load_clips(tmp_path, progress=False)
    assert clips.split.tolist() == ["test"]
    assert clips.rows[["clip", "task"]].to_numpy().tolist() == [[0, "word"], [0, "voice"]]


def test_one_file_under_two_links_is_one_clip(tmp_path):
    for folder in ("all", "word", "data"):
        (tmp_path / folder).mkdir()
    soundfile.write(tmp_path / "all" / "1.wav", tone(), 16_000)
    (tmp_path / "word" / "1.wav").symlink_to(tmp_path / "all" / "1.wav")
    (tmp_path / "voice").symlink_to(tmp_path / "all")
    names = ["word/1.wav,word,yes,train", "voice/1.wav,voice,ann,test"]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,task,label,split", *names]))
    assert sl.load_clips(tmp_path, progress=False).split.tolist() == ["test"]


def test_hidden_folders_are_not_searched_and_a_file_under_several_links_counts_once(tmp_path):
    data = tmp_path / ".all" / "data"  # what lies above the folder does not matter
    for folder in (".git/annex", ".Trash-1000/files", ".ipynb_checkpoints", "$RECYCLE.BIN", "sub"):
        (data / folder).mkdir(parents=True)
    for name in (
        ".git/annex/SHA.wav",
        ".Trash-1000/files/b.wav",
        ".ipynb_checkpoints/c.wav",
        "$RECYCLE.BIN/d.wav",
    ):
        soundfile.write(data / name, tone(), 16_000)
    for name in ("a.wav", "again.wav", "sub/a.wav"):
        (data / name).symlink_to(data / ".git" / "annex" / "SHA.wav")
    soundfile.write(data / "hard.wav", tone(), 16_000)
    os.link(data / "hard.wav", data / "sub" / "hard too.wav")
    assert [path.name for path in sl.load_clips(data, progress=False).paths] == ["a.wav", "hard.wav"]
    rows = ["a.wav,x,train", "again.wav,x,train", "hard.wav,y,train", "sub/hard too.wav,y,test"]
    (data / "manifest.csv").write_text("\n".join(["path,label,split", *rows[:3]]))
    assert sl.load_clips(data, progress=False).split.tolist() == ["train", "train"]
    (data / "manifest.csv").write_text(
        "\n".join(["path,task,label,split", "hard.wav,1,x,train", "sub/hard too.wav,2,y,test"])
    )
    assert sl.load_clips(data, progress=False).split.tolist() == ["test"]  # in the strictest of its splits


def test_names_that_are_not_utf8_are_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    path = (tmp_path / "a.wav").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))  # Latin-1
    for source in (tmp_path, [path]):
        clips = sl.load_clips(source, strict=True, progress=False)
        assert os.fsencode(clips.paths[0].name) == b"caf\xe9.wav"
        assert clips.describe(0).encode() == "caf\N{REPLACEMENT CHARACTER}.wav".encode()


@pytest.mark.parametrize(("listed", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_either_unicode_form_find_each_other(tmp_path, listed, there):
    name = "sé/café.wav"
    on_disk = tmp_path / unicodedata.normalize(there, name)
    on_disk.parent.mkdir()
    soundfile.write(on_disk, tone(), 16_000)
    asked = unicodedata.normalize(listed, name)
    rows = [f"{asked},é,", f"{unicodedata.normalize(there, name)},e\N{COMBINING ACUTE ACCENT},"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    for source in (tmp_path / "list.csv", [tmp_path / asked], (tmp_path / asked).parent):
        clips = sl.load_clips(source, strict=True, progress=False)
        assert [str(path) for path in clips.paths] == [str(on_disk)]
    assert sl.load_clips(tmp_path / "list.csv").labels("label").tolist() == [
        "é"
    ]  # one label, not a contradiction


def test_two_dots_in_a_folders_path_are_followed_as_the_disk_does(tmp_path, monkeypatch):
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    soundfile.write(tmp_path / "far" / "data" / "a.wav", tone(), 16_000)
    monkeypatch.chdir(tmp_path / "far" / "deep")
    expected = [(tmp_path / "far" / "data" / "a.wav").resolve()]
    for manifest in (False, True):
        if manifest:
            (tmp_path / "far" / "data" / "manifest.csv").write_text("path\na.wav\n")
        for source in ("../data", tmp_path / "link" / ".." / "data"):
            assert list(sl.load_clips(source, progress=False).paths) == expected


def replaced_under_the_same_date(path, pitch):
    soundfile.write(path, tone(pitch=pitch), 16_000)
    os.utime(path, ns=(10**18, 10**18))


def test_another_sound_under_the_same_size_and_date_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    (path := tmp_path / "data" / "a.wav").parent.mkdir()
    replaced_under_the_same_date(path, 300)
    before = sl.load_clips(path.parent, progress=False)
    first = before[0]
    replaced_under_the_same_date(path, 3000)
    after = sl.load_clips(path.parent, progress=False)
    assert np.abs(np.fft.rfft(after[0])).argmax() == 3000
    np.testing.assert_array_equal(before[0], first)  # who has the old sound open keeps it
    assert after.store == before.store  # whose place it takes


def test_a_file_that_was_only_touched_is_not_decoded_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    (path := tmp_path / "data" / "a.wav").parent.mkdir()
    replaced_under_the_same_date(path, 300)
    sl.load_clips(path.parent, progress=False)
    monkeypatch.setattr("slicer_lite.audio.store.decode_into", lambda *_: pytest.fail("decoded again"))
    path.chmod(0o600)
    os.link(path, tmp_path / "backup")
    replaced_under_the_same_date(path, 300)  # restored from somewhere
    sl.load_clips(path.parent, progress=False)
    monkeypatch.setattr(
        "slicer_lite.audio.store._sampled", lambda _: pytest.fail("its bytes were read again")
    )
    sl.load_clips(path.parent, progress=False)


def test_a_long_file_is_known_by_a_sample_of_its_bytes(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(10**6))
    table = read_table([path])
    before = _sampled(table)
    for place in (0, 10**6 - 1):
        path.write_bytes(bytes(place) + b"1" + bytes(10**6 - 1 - place))
        assert _sampled(table) != before


def test_lists_of_paths_and_dataframes_are_tables(tmp_path):
    for number, name in enumerate("abc"):
        soundfile.write(tmp_path / f"{name}.wav", tone(pitch=200 * (number + 1)), 16_000)
    paths = [tmp_path / "c.wav", tmp_path / "a.wav", tmp_path / "c.wav"]
    texts = [str(path) for path in paths]
    for source in (
        paths,
        texts,
        tuple(paths),
        pd.Series(texts, index=[7, 8, 9]),
        np.array(texts),
        iter(paths),
    ):
        assert (
            list(sl.load_clips(source, progress=False).paths) == paths
        )  # in their order, each as often as it is named
    frame = pd.DataFrame({"Path": paths[:2], "label": [1, 2], "split": ["test", None]}, index=[5, 5])
    clips = sl.load_clips(frame, progress=False)
    assert list(clips.paths) == paths[:2]
    assert (clips.labels("label").tolist(), clips.split.tolist()) == (["1", "2"], ["test", ""])
    encoder = sl.Encoder(channels=4, dim=8)
    for source in (paths[:2], frame):
        np.testing.assert_array_equal(sl.embed(encoder, source), sl.embed(encoder, clips))


def test_what_soundfile_reads_is_embedded_as_its_file_is(tmp_path):
    rng = np.random.default_rng(0)
    files = {
        "mono": rng.uniform(-1, 1, 20_000),
        "stereo": rng.uniform(-1, 1, (20_000, 2)),
        "loud": 1.09 * tone(level=1),
    }
    encoder = sl.Encoder(channels=4, dim=8)
    for name, samples in files.items():
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
        expected = sl.embed(encoder, [path])
        read = soundfile.read(path)
        for source in (
            read,
            read[0],
            [read],
            [read[0]],
            [torch.from_numpy(read[0])],
            [soundfile.read(path, always_2d=True)],
        ):
            np.testing.assert_allclose(sl.embed(encoder, source), expected, atol=1e-3)
            assert sl.load_clips(source)[0].max() <= 1
    assert len(sl.embed(encoder, np.zeros((3, 16_000)))) == 3  # a batch: a clip each row


def test_slices_masks_and_places_give_clips():
    clips = sl.Clips.from_waveforms([np.full(100, i / 10) for i in range(5)])

    def levels(some):
        return [round(10 * float(x[0])) for x in some]

    assert levels(clips[1:4]) == levels(clips[[1, 2, 3]]) == levels(clips[np.array([1, 2, 3])]) == [1, 2, 3]
    assert levels(clips[clips.lengths > 100]) == []
    assert (
        levels(clips[np.arange(5) % 2 == 0])
        == levels(clips[pd.Series([True, False] * 2 + [True])])
        == [0, 2, 4]
    )
    assert levels(clips[::-2]) == [4, 2, 0]
    assert levels(clips[10:]) == levels(clips[[]]) == []
    assert levels([clips[-1], clips[np.int64(2)]]) == [4, 2]


def test_linked_folders_are_searched_each_once(tmp_path):
    for folder in ("data/deep", "far"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("data/a.wav", "data/deep/b.wav", "far/c.wav", "data/._a.wav"):
        soundfile.write(tmp_path / name, tone(), 16_000)
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data" / "deep")
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    assert len(sl.load_clips(tmp_path / "data", progress=False)) == 2
    (tmp_path / "data" / "more").symlink_to(tmp_path / "far")
    with pytest.raises(ValueError, match=r"more.c\.wav is a link that leads out"):
        sl.load_clips(tmp_path / "data", progress=False)
    clips = sl.load_clips(tmp_path / "data", allow_outside=True, progress=False)
    assert [path.name for path in clips.paths] == ["a.wav", "b.wav", "c.wav"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"closed cannot be listed \(Permission denied\): make it readable"):
        sl.load_clips(tmp_path, progress=False)


def test_a_folder_called_sounds_is_not_the_sound_world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "slicer_lite.sounds.make_sounds",
        lambda *_, **__: make_sounds("world", clips=200, progress=False),
    )
    assert len(sl.load_clips("sounds", progress=False)) == 200
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds" / "a.wav", tone(), 16_000)
    for folder in ("./sounds", Path("sounds"), Path("./sounds")):
        assert len(sl.load_clips(folder, progress=False)) == 1
    with pytest.warns(
        UserWarning, match="the embedded sound world. The folder of that name that is here is ./sounds"
    ):
        assert len(sl.load_clips("sounds", progress=False)) == 200


def test_headers_may_have_capitals(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "list.csv").write_text("Path,Label,Split \na.wav,dog,test\n")
    clips = sl.load_clips(tmp_path / "list.csv", progress=False)
    assert (clips.split.tolist(), clips.rows["label"].tolist()) == (["test"], ["dog"])


def test_long_files_of_many_channels_are_read_a_stretch_at_a_time(tmp_path, monkeypatch):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (16_000, 4)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    monkeypatch.setattr("slicer_lite.audio.decode._READ_AT_ONCE", 777)
    monkeypatch.setattr("slicer_lite.audio.decode.MAX_SAMPLES", 20_000)  # of one channel: four have more
    np.testing.assert_array_equal(decode(tmp_path / "a.wav"), samples.mean(1))
    np.testing.assert_array_equal(decode(tmp_path / "a.wav", (0.25, 0.5)), samples[4000:12_000].mean(1))


def test_parts_keep_the_labels_of_their_clips(tmp_path):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", tone(), 16_000)
    rows = ["a.wav,x,1", "b.wav,x,2", "b.wav,y,3", "c.wav,y,4"]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,task,label", *rows]))
    clips = sl.load_clips(tmp_path, progress=False)

    def labels(which):
        part = clips.subset(which)
        return len(part), sorted(part.rows[["clip", "task", "label"]].to_numpy().tolist())

    assert labels([1, 1, -1]) == (
        3,
        [[0, "x", "2"], [0, "y", "3"], [1, "x", "2"], [1, "y", "3"], [2, "y", "4"]],
    )
    assert labels([True, False, False]) == (1, [[0, "x", "1"]])
    assert labels([]) == (0, [])
    for which in ([3], [-4], [True]):
        with pytest.raises(IndexError):
            clips.subset(which)


def test_a_group_on_both_sides_is_said(tmp_path):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", tone(), 16_000)
    rows = [
        "a.wav,word,yes,train,ann",
        "b.wav,word,no,test,ann",
        "c.wav,word,no,test,",
        "a.wav,tone,x,train,",
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,task,label,split,group", *rows]))
    with pytest.warns(
        UserWarning, match=r"task 'word': 1 group \('ann'\) is in its train and in its test split"
    ) as said:
        sl.load_clips(tmp_path, progress=False)
    assert len(said) == 1


def test_what_a_kill_left_of_a_decoding_goes_after_a_week(tones, tmp_path, monkeypatch):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path))
    old, new, growing = (tmp_path / "stores" / f"unfinished-{name}" for name in ("old", "new", "growing"))
    for folder in (old, new, growing):
        folder.mkdir(parents=True)
        (folder / "waveforms").write_bytes(b"samples")
    weeks_ago = time.time() - 8 * 24 * 3600
    for path in (old / "waveforms", old, growing):
        os.utime(path, (weeks_ago, weeks_ago))
    sl.load_clips(tones, progress=False)
    assert not old.exists()
    assert new.exists()
    assert growing.exists()  # a decoding of more than a week, which goes on


def test_the_sound_world_is_not_a_store_that_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "slicer_lite.sounds.make_sounds",
        lambda *_, **__: make_sounds("world", clips=200, progress=False),
    )
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    shutil.copytree(sl.load_clips(["a.wav"], progress=False).store, tmp_path / "sounds")
    assert len(sl.load_clips(Path("sounds"), progress=False)) == 1
    with pytest.warns(UserWarning, match="The folder of that name that is here is ./sounds"):
        assert len(sl.load_clips("sounds", progress=False)) == 200
    with pytest.raises(FileNotFoundError, match=r"or 'sounds' \(the word, not a Path\)"):
        os.chdir(tmp_path / "sounds")
        sl.load_clips(Path("sounds"), progress=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_is_not_waited_for(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    os.mkfifo(tmp_path / "b.wav")
    with pytest.warns(UserWarning, match=r"1 of 2 files could not be read.*b.wav"):
        assert len(sl.load_clips(tmp_path, progress=False)) == 1
