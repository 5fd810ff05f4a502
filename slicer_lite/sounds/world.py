"""The plan of the world (which clip is what, and in which half of which task) and the writing of it."""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from tqdm.auto import tqdm

from slicer_lite.base.files import write_durably
from slicer_lite.sounds import city, music, nature, voice
from slicer_lite.sounds.synthesis import RATE, Random, Signal, record

VERSION = 1  # raised whenever the same seed would give other sounds
FEWEST = 200  # below this, some label would be missing from one half of its task

TASKS: dict[str, tuple[str, ...]] = {
    "keyword": voice.WORDS,
    "speaker": tuple(voice.SPEAKERS),
    "emotion": tuple(voice.EMOTIONS),
    "language": tuple(voice.LANGUAGES),
    "instrument": tuple(music.INSTRUMENTS),
    "bird": ("bird", "other"),
    "scene": tuple(nature.SCENES),
    "urban": tuple(city.URBAN),
}
_NOTE = "sounds.json"  # says which world a folder holds; the last file that is put there
VOICE_TASKS = ("keyword", "speaker", "emotion", "language")
SHARES = {"instrument": 0.14, "bird": 0.11, "scene": 0.14, "urban": 0.16}  # of all clips; the rest is voice
TAKES = 2  # clips of one recording
_NOTES = np.random.default_rng(5).permutation(np.arange(music.LOWEST, music.HIGHEST + 1))
NOTES = {"train": tuple(_NOTES[:25]), "test": tuple(_NOTES[25:])}  # no pitch is in both halves


@dataclass(frozen=True)
class Row:
    """One line of manifest.csv, less the path."""

    task: str
    label: str
    split: str  # train, test, or empty: label known, but in neither half of this task
    group: str  # what must not be in both halves of this task


@dataclass(frozen=True)
class Clip:
    """One clip before it is made."""

    number: int
    family: str  # voice, instrument, bird, scene or urban
    recording: int  # clips of one recording share what `source` draws
    labels: dict[str, str]
    note: int  # of an instrument, 0 otherwise
    rows: tuple[Row, ...]

    @property
    def path(self) -> str:
        return f"{self.family}/{self.number:05d}.flac"


def plan(clips: int = 3200, seed: int = 0) -> list[Clip]:
    """What each of `clips` clips will be; nothing is rendered.

    Raises ValueError below 200 clips, where some label would be missing from one half of its task, and for negative
    seeds.
    """
    if clips < FEWEST:
        raise ValueError(f"clips={clips}: at least {FEWEST} are needed to have every label in both halves.")
    _check_seed(seed)
    rng = np.random.default_rng([seed, 0, 2])
    counts = {family: round(clips * share) for family, share in SHARES.items()}
    made: list[Clip] = []
    for family, count in {"voice": clips - sum(counts.values()), **counts}.items():
        some = _plan_voice(count, rng) if family == "voice" else _plan_sounds(family, count)
        earlier = made[-1].recording + 1 if made else 0
        for recording, labels, note, rows in some:
            made.append(Clip(len(made), family, earlier + recording, labels, note, rows))
    return made


_Planned = Iterator[tuple[int, dict[str, str], int, tuple[Row, ...]]]


def _deal(labels: tuple[str, ...], count: int, rng: Random) -> list[str]:
    """`count` labels, as evenly as possible, in random order."""
    return [str(label) for label in rng.permutation(np.resize(labels, count))]


def _plan_voice(count: int, rng: Random) -> _Planned:
    """Voice clips in three parts, 7 : 3 : 3.

    train: known speakers, `train` in all four tasks. speaker_test: the same speakers in other recordings,
    `test` for speaker only. guest: other people, `test` for the other three tasks, not in the speaker task.
    """
    held_out = round(count * 3 / 13)
    sizes = {"train": count - 2 * held_out, "speaker_test": held_out, "guest": held_out}
    recording = -1
    for part, size in sizes.items():
        people = sorted(_deal(tuple(voice.GUESTS if part == "guest" else voice.SPEAKERS), size, rng))
        dealt = {task: _deal(TASKS[task], size, rng) for task in VOICE_TASKS if task != "speaker"}
        split = {"train": "train", "speaker_test": "", "guest": "test"}[part]
        session = 0
        for i, person in enumerate(people):
            new_person = i == 0 or people[i - 1] != person
            session = 0 if new_person else session + 1
            if session % TAKES == 0:
                recording += 1
            labels = {"speaker": person} | {task: values[i] for task, values in dealt.items()}
            rows = [Row(task, dealt[task][i], split, person) for task in dealt]
            if part != "guest":
                rows.append(
                    Row("speaker", person, "train" if part == "train" else "test", f"session-{recording}")
                )
            yield recording, labels, 0, tuple(rows)


def _plan_sounds(task: str, count: int) -> _Planned:
    """Clips of one non-voice task: recordings of two takes, three in ten of them for the test half."""
    recording = -1
    for i, label in enumerate(TASKS[task]):
        mine = count * (i + 1) // len(TASKS[task]) - count * i // len(TASKS[task])
        numbers = {"train": 0, "test": 0}  # recordings of this label so far
        for k in range(mine):
            if k % TAKES == 0:
                split = "test" if (k // TAKES) % 10 in (1, 4, 7) else "train"
                recording += 1
                numbers[split] += 1
            notes = NOTES[split]
            note = int(notes[(numbers[split] + 3 * i) % len(notes)]) if task == "instrument" else 0
            group = f"{label}-note-{note}" if task == "instrument" else f"recording-{recording}"
            yield recording, {task: label}, note, (Row(task, label, split, group),)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed = {seed}: it must be a whole number, 0 or more.")


def _generators(clip: Clip, seed: int) -> tuple[Random, Random]:
    """`source` and `take` (see `synthesis`) of a clip, which depend on nothing but these numbers."""
    return np.random.default_rng([seed, clip.recording, 1]), np.random.default_rng([seed, clip.number])


def _voice(labels: dict[str, str], source: Random, take: Random) -> Signal:
    speaker = (voice.SPEAKERS | voice.GUESTS)[labels["speaker"]]
    mood, tongue = voice.EMOTIONS[labels["emotion"]], voice.LANGUAGES[labels["language"]]
    n, early = int(take.uniform(1.0, 1.15) * RATE), take.uniform(0.2, 0.5)
    word = voice.speak(labels["keyword"], speaker, mood, tongue, take)
    clip = np.zeros(n)
    start = int(early * (n - len(word)))  # most windows hold all of the word
    clip[start : start + len(word)] = word
    return record(clip, source, take)


_SOUNDS: dict[str, Callable[[str, int, Random, Random], Signal]] = {
    "bird": nature.bird,
    "scene": nature.scene,
    "urban": city.urban,
}


def _make(family: str, labels: dict[str, str], note: int, source: Random, take: Random) -> NDArray[np.int16]:
    """(samples,) the clip as it is stored."""
    if family == "voice":
        x = _voice(labels, source, take)
    else:
        # In whole hundredths of a second: the FFT of a prime number of samples is up to seven times slower.
        n = int(take.integers(100, 201)) * RATE // 100
        if family == "instrument":
            x = music.instrument(labels[family], note, n, source, take)
        else:
            x = _SOUNDS[family](labels[family], n, source, take)
    return np.round(x * 32767).astype(np.int16)


def render(task: str, label: str | None = None, seed: int = 0) -> NDArray[np.float32]:
    """One clip to listen to: (samples,) float32 in [-1, 1] at 16 kHz, 1 to 2 s long.

    The same arguments give the same clip. In the voice tasks clips with the same `seed` differ in what is asked for,
    and share their other labels. Without `label`, a random one.

    Raises ValueError for a task or label that is not in `TASKS`, and for negative seeds.
    """
    _check_seed(seed)
    if task not in TASKS:
        raise ValueError(f"Unknown task {task!r}; the tasks are {', '.join(TASKS)}.")
    allowed = TASKS[task] + (tuple(voice.GUESTS) if task == "speaker" else ())
    if label is not None and label not in allowed:
        raise ValueError(f"Unknown label {label!r} for task {task!r}; allowed are {', '.join(allowed)}.")
    source, take = np.random.default_rng([seed, 0, 3]), np.random.default_rng([seed, 0, 4])
    tasks = VOICE_TASKS if task in VOICE_TASKS else (task,)
    labels = {name: str(take.choice(TASKS[name])) for name in tasks}
    note = int(take.integers(music.LOWEST, music.HIGHEST + 1))
    family = "voice" if task in VOICE_TASKS else task
    pcm = _make(family, labels | ({task: label} if label else {}), note, source, take)
    return pcm.astype(np.float32) / np.float32(32768)


def _write(folder: Path, seed: int, clips: list[Clip]) -> int:
    """Render some clips into `folder`; returns how many. Runs in the worker processes."""
    import soundfile

    for clip in clips:
        pcm = _make(clip.family, clip.labels, clip.note, *_generators(clip, seed))
        try:
            soundfile.write(folder / clip.path, pcm, RATE, subtype="PCM_16", format="FLAC")
        except soundfile.LibsndfileError as error:  # of a full disk it says no more than "System error"
            raise OSError(f"{folder / clip.path} cannot be written ({error}): is the disk full?") from None
    return len(clips)


def make_sounds(
    folder: str | Path, clips: int = 3200, seed: int = 0, workers: int | None = None, progress: bool = True
) -> Path:
    """Write the world into `folder`: 16 kHz mono 16-bit FLAC files, `manifest.csv` and `sounds.json`.

    The bytes depend on `clips` and `seed` alone. `workers` processes render; by default one per processor, or
    none but this one for a few clips. `progress` shows a bar. A folder that holds exactly this world is left as it
    is. A new folder appears only when it is complete.

    Raises FileExistsError when `folder` holds anything else, OSError when a file cannot be written, and ValueError
    below 200 clips and for negative seeds.
    """
    folder = Path(folder).expanduser().resolve()
    identity = {"version": VERSION, "clips": clips, "seed": seed}
    planned = plan(clips, seed)
    if _holds(folder, identity):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # An empty folder (`_holds` has seen to that) stays and is filled: somebody may be in it, or a disk mounted on it.
    empty = folder.exists()
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder if empty else folder.parent))
    try:
        for family in {clip.family: None for clip in planned}:
            (unfinished / family).mkdir()
        _render_all(unfinished, seed, planned, workers, progress)
        _write_manifest(unfinished / "manifest.csv", planned)
        write_durably(unfinished / _NOTE, f"{json.dumps(identity)}\n".encode())
        unfinished.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        try:
            if empty:
                for part in sorted(unfinished.iterdir(), key=lambda part: part.name == _NOTE):
                    part.rename(folder / part.name)
            else:
                unfinished.rename(folder)
        except OSError:
            if not _holds(folder, identity):  # unless another process has made the same world meanwhile
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _holds(folder: Path, identity: dict[str, int]) -> bool:
    """Is exactly this world there already? False if nothing is; FileExistsError if something else is."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, not a folder: give another name.")
    # What another process is writing there, or left when it was killed, is nobody's.
    inside = [p.name for p in folder.iterdir() if not p.name.startswith(f".{folder.name}-")]
    if not inside:
        return False
    note = folder / _NOTE
    there = f"other files ({inside[0]})"
    if note.is_file():
        try:
            found = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:  # neither JSON nor text
            there = f"a {note.name} that is damaged"
        else:
            if found == identity:
                return True
            there = f"another sound world, {found}"
    raise FileExistsError(f"{folder} holds {there}, not {identity}. Give another folder, or delete this one.")


def _render_all(
    folder: Path, seed: int, planned: list[Clip], workers: int | None, progress: bool = True
) -> None:
    """Render in batches, in several processes where that pays; in this one if they cannot be started."""
    workers = workers or min(os.cpu_count() or 1, len(planned) // 400)
    count = max(1, len(planned) // 16)
    batches = [planned[i::count] for i in range(count)]
    done = 0
    with tqdm(total=len(planned), desc="making sounds", unit="clip", disable=not progress) as bar:
        if workers > 1:
            try:
                # joblib's processes are no forks, which threads of the caller (torch, Jupyter) do not survive, and
                # do not read the caller's script, as the standard library's do.
                calls = (delayed(_write)(folder, seed, batch) for batch in batches)
                for written in Parallel(workers, return_as="generator")(calls):
                    done += 1
                    bar.update(written)
            except (BrokenProcessPool, OSError):
                pass  # they could not be started, or were killed
        for batch in batches[done:]:
            bar.update(_write(folder, seed, batch))


def _write_manifest(path: Path, planned: list[Clip]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "task", "label", "split", "group"])
        for clip in planned:
            for row in clip.rows:
                writer.writerow([clip.path, row.task, row.label, row.split, row.group])
