"""The embedded sound world: the same every time, fairly divided, and true to its labels?"""

import csv
import filecmp
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from slicer_lite.sounds import TASKS, Clip, city, make_sounds, music, plan, render, voice, world
from slicer_lite.sounds.synthesis import RATE

EVERY_LABEL = [(task, label) for task, labels in TASKS.items() for label in labels]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sounds(tmp_path_factory.mktemp("sounds") / "small", clips=200, workers=1)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def random_pair(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    return np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])


# --- the same every time ----------------------------------------------------------------------------------


def test_bytes_depend_on_neither_run_nor_workers(small: Path, tmp_path: Path) -> None:
    some = plan(200)[::4]
    for clip in some:
        (tmp_path / clip.path).parent.mkdir(exist_ok=True)
    world._render_all(tmp_path, 0, some, workers=2)
    paths = [clip.path for clip in some]
    assert filecmp.cmpfiles(small, tmp_path, paths, shallow=False)[0] == paths


def test_goes_on_alone_when_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    def note(folder: Path, seed: int, clips: list[Clip]) -> int:
        written.extend(clips)
        return len(clips)

    written: list[Clip] = []
    monkeypatch.setattr(world, "Parallel", refuse)
    monkeypatch.setattr(world, "_write", note)
    world._render_all(Path("unused"), 0, plan(200), workers=2)
    assert sorted(written, key=lambda clip: clip.number) == plan(200)


@pytest.mark.slow
def test_a_script_without_a_guard_is_read_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import slicer_lite as sl\n"
        "print('read')\n"
        f"sl.make_sounds({str(tmp_path / 'sounds')!r}, clips=200, workers=2, progress=False)\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert (ran.stdout, ran.stderr) == ("read\n", "")


def test_another_seed_is_another_world() -> None:
    assert plan(400, seed=1) != plan(400, seed=2)
    for task in TASKS:
        label = TASKS[task][0]
        assert not np.array_equal(render(task, label, seed=1), render(task, label, seed=2))


@pytest.mark.parametrize("task", world.VOICE_TASKS)
def test_same_seed_other_label_keeps_the_rest(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, str]] = []

    def note(family: str, labels: dict[str, str], *_: object) -> np.ndarray:
        said.append(labels)
        return np.zeros(1)

    monkeypatch.setattr(world, "_make", note)
    render(task, TASKS[task][0], seed=4)
    render(task, TASKS[task][1], seed=4)
    assert {name for name in said[0] if said[0][name] != said[1][name]} == {task}


# --- fairly divided ---------------------------------------------------------------------------------------


def check_halves(clips: list[Clip]) -> None:
    groups: dict[tuple[str, str], set[str]] = defaultdict(set)
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    for clip in clips:
        splits = {row.split for row in clip.rows}
        assert splits <= {"train", "test", ""}
        assert not {"train", "test"} <= splits, f"{clip.path} is in both halves"
        for row in clip.rows:
            groups[row.task, row.split].add(row.group)
            labels[row.task, row.split].add(row.label)
    for task in TASKS:
        assert not groups[task, "train"] & groups[task, "test"], task
        assert labels[task, "train"] == labels[task, "test"] == set(TASKS[task]), task


@settings(deadline=None, max_examples=20)
@given(clips=st.integers(200, 4000), seed=st.integers(0, 2**32))
def test_halves_are_disjoint_and_complete(clips: int, seed: int) -> None:
    planned = plan(clips, seed)
    assert len(planned) == clips
    check_halves(planned)


def test_default_plan_is_balanced() -> None:
    planned = plan()
    check_halves(planned)
    for task, labels in TASKS.items():
        counts = {
            split: np.array(
                [sum(r.label == x and r.split == split for c in planned for r in c.rows) for x in labels]
            )
            for split in ("train", "test")
        }
        train, test = counts["train"].sum(), counts["test"].sum()
        assert 0.66 < train / (train + test) < 0.74, (task, train, test)
        for count in counts.values():
            assert count.max() <= 1.4 * count.min(), (task, counts)


def test_no_pitch_in_both_halves() -> None:
    notes: dict[str, set[int]] = defaultdict(set)
    for clip in plan():
        if clip.family == "instrument":
            notes[clip.rows[0].split].add(clip.note)
    assert notes["train"] and notes["test"]
    assert not notes["train"] & notes["test"]


def test_pairs_of_words_hold_the_same_sounds() -> None:
    for one, other in zip(voice.WORDS[::2], voice.WORDS[1::2], strict=True):
        assert one != other
        assert sorted(one) == sorted(other)


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 200"):
        plan(199)


def test_a_negative_seed_is_refused() -> None:
    for function in (lambda: plan(200, -1), lambda: render("bird", seed=-1)):
        with pytest.raises(ValueError, match="seed = -1: it must be a whole number, 0 or more"):
            function()


def test_manifest_says_what_was_planned(small: Path) -> None:
    with (small / "manifest.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["path", "task", "label", "split", "group"]
    wanted = [(c.path, r.task, r.label, r.split, r.group) for c in plan(200) for r in c.rows]
    assert [tuple(row.values()) for row in found] == wanted
    assert {row["path"] for row in found} == {name for name in files(small) if name.endswith(".flac")}


# --- sounds like what it says -----------------------------------------------------------------------------


def test_every_clip_is_sound(small: Path) -> None:
    durations = []
    for path in small.rglob("*.flac"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
        x, _ = soundfile.read(path)
        durations.append(len(x) / RATE)
        assert np.abs(x).max() < 0.99, path  # not clipped
        assert -46 < 20 * np.log10(np.sqrt(np.mean(x * x))) < -15, path
    assert min(durations) >= 1.0
    assert max(durations) <= 2.0
    assert 1.2 < np.mean(durations) < 1.4


@pytest.mark.parametrize(("task", "label"), EVERY_LABEL)
def test_every_label_renders(task: str, label: str) -> None:
    x = render(task, label, seed=7)
    assert x.dtype == np.float32 and x.ndim == 1
    assert np.isfinite(x).all()
    assert RATE <= len(x) <= 2 * RATE
    assert 0.005 < np.abs(x).max() < 0.99


@pytest.mark.parametrize(
    ("task", "label"), [pair for pair in EVERY_LABEL if pair[0] not in world.VOICE_TASKS]
)
def test_takes_of_one_recording_share_its_draws(task: str, label: str) -> None:
    states = []
    for number in range(3):  # also of different lengths
        source, take = np.random.default_rng(5), np.random.default_rng(number)
        world._make(task, {task: label}, 60, source, take)
        states.append(source.bit_generator.state)
    assert states[0] == states[1] == states[2]


def test_file_holds_what_its_generators_make(small: Path) -> None:
    clip = plan(200)[123]
    pcm, _ = soundfile.read(small / clip.path, dtype="int16")
    np.testing.assert_array_equal(
        pcm, world._make(clip.family, clip.labels, clip.note, *world._generators(clip, 0))
    )


def period(x: np.ndarray, expected: float) -> float:
    """Seconds: the lag of the highest autocorrelation between 0.7 and 1.4 of the expected period."""
    spectrum = np.fft.rfft(x, 4 * len(x))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(x)]
    low, high = int(0.7 * expected * RATE), int(1.4 * expected * RATE) + 1
    peak = low + int(np.argmax(correlation[low:high]))
    before, at, after = correlation[peak - 1 : peak + 2]
    return (peak + 0.5 * (before - after) / (before - 2 * at + after)) / RATE  # parabola through the peak


@settings(deadline=None, max_examples=30)
@given(
    # not those whose partials are no multiples of one pitch
    label=st.sampled_from(sorted(set(music.INSTRUMENTS) - {"bell", "marimba"})),
    note=st.integers(music.LOWEST, music.HIGHEST),
    seed=st.integers(0, 1000),
)
def test_instruments_are_in_tune(label: str, note: int, seed: int) -> None:
    hertz = music.pitch(note)
    x = music.INSTRUMENTS[label](hertz, RATE, *random_pair(seed))[RATE // 10 :]
    semitones = 12 * np.log2(1 / (period(x, 1 / hertz) * hertz))
    assert abs(semitones) < 0.35


def fundamental(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """(windows,) Hz of the strongest partial between `low` and `high`, every 64 ms."""
    windows = x[: len(x) // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
    spectrum = np.abs(np.fft.rfft(windows, 8192))
    hertz = np.fft.rfftfreq(8192, 1 / RATE)
    inside = (hertz > low) & (hertz < high)
    return hertz[inside][np.argmax(spectrum[:, inside], axis=1)]


@pytest.mark.parametrize("seed", range(6))
def test_siren_sweeps_and_horn_does_not(seed: int) -> None:
    source, _ = random_pair(seed)
    low = float(np.exp(source.uniform(np.log(450), np.log(800))))  # the siren's first draw
    siren = fundamental(city.URBAN["siren"](2 * RATE, *random_pair(seed)), 0.9 * low, 1.45 * low)
    assert siren.max() / siren.min() > 1.25

    horn = city.URBAN["horn"](2 * RATE, *random_pair(seed))
    windows = horn[: 31 * 1024].reshape(-1, 1024)
    pitches = fundamental(windows[np.ptp(windows, axis=1) > 0.9 * np.ptp(horn)].ravel(), 250, 650)
    assert len(np.unique(np.round(np.log2(pitches), 1))) <= 3  # its two notes


def test_emotion_bends_the_pace() -> None:
    ben, tongue = voice.SPEAKERS["ben"], voice.LANGUAGES["belan"]
    lengths = {
        mood: len(voice.speak("lima", ben, bend, tongue, np.random.default_rng(1)))
        for mood, bend in voice.EMOTIONS.items()
    }
    assert lengths["angry"] < lengths["neutral"] < lengths["sad"]


@settings(deadline=None, max_examples=30)
@given(
    word=st.sampled_from(voice.WORDS),
    speaker=st.sampled_from(sorted(voice.SPEAKERS | voice.GUESTS)),
    mood=st.sampled_from(sorted(voice.EMOTIONS)),
    tongue=st.sampled_from(sorted(voice.LANGUAGES)),
    seed=st.integers(0, 1000),
)
def test_a_word_fits_into_a_window(word: str, speaker: str, mood: str, tongue: str, seed: int) -> None:
    everyone = voice.SPEAKERS | voice.GUESTS
    x = voice.speak(
        word, everyone[speaker], voice.EMOTIONS[mood], voice.LANGUAGES[tongue], np.random.default_rng(seed)
    )
    assert 0.25 * RATE < len(x) < 0.95 * RATE
    assert np.isfinite(x).all()


# --- the folder -------------------------------------------------------------------------------------------


def test_same_world_is_left_alone(small: Path) -> None:
    before = (small / "manifest.csv").stat().st_mtime_ns
    assert make_sounds(small, clips=200) == small
    assert (small / "manifest.csv").stat().st_mtime_ns == before


def test_another_world_is_not_overwritten(small: Path) -> None:
    with pytest.raises(FileExistsError, match=r"another sound world.*'seed': 0.*Give another folder"):
        make_sounds(small, clips=200, seed=1)


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="other files"):
        make_sounds(tmp_path, clips=200)
    assert files(tmp_path) == ["thesis.txt"]


@pytest.mark.usefixtures("quick")
def test_what_a_killed_process_left_does_not_hold_up_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / ".mine-k3l2m1n0").mkdir(parents=True)
    (folder / ".mine-k3l2m1n0" / "0.flac").write_bytes(b"half")
    make_sounds(folder, clips=200, workers=1)
    assert (folder / "sounds.json").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".DS_Store").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"other files \(\.DS_Store\)"):
        make_sounds(tmp_path / "other", clips=200)


def test_nothing_is_left_of_a_world_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(world, "_write_manifest", fail)
    monkeypatch.setattr(world, "_write", lambda folder, seed, clips: len(clips))
    with pytest.raises(RuntimeError, match="on fire"):
        make_sounds(tmp_path / "new", clips=200, workers=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", list(TASKS))
def test_unknown_label_names_the_allowed_ones(task: str) -> None:
    with pytest.raises(ValueError, match=TASKS[task][-1]):
        render(task, "theremin")


def test_unknown_task_names_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match="instrument"):
        render("weather")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is rendered: for tests of the folder alone."""
    monkeypatch.setattr(world, "_write", lambda folder, seed, clips: len(clips))


@pytest.mark.usefixtures("quick")
def test_an_empty_folder_is_filled_also_by_the_name_of_a_dot_or_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make_sounds(".", clips=200, workers=1)
    assert (tmp_path / "here" / "sounds.json").is_file()
    assert not list((tmp_path / "here").glob(".*"))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make_sounds(tmp_path / "link", clips=200, workers=1)
    assert (tmp_path / "real" / "sounds.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link", "real"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_note_of_a_world_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sounds.json").write_bytes(content)
    with pytest.raises(FileExistsError, match=r"sounds\.json.*damaged.*delete this one"):
        make_sounds(tmp_path, clips=200, workers=1)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise soundfile.LibsndfileError(2)

    monkeypatch.setattr(soundfile, "write", full)
    with pytest.raises(OSError, match="flac"):
        make_sounds(tmp_path / "new", clips=200, workers=1)
