"""Where clips come from: the sound world, a folder, a folder with a manifest, a CSV, or paths -> one table.

A manifest (`manifest.csv` in a folder) or any other CSV has a column with the path of each clip (`path`,
`files`, `wav` or `wav_path`; relative to the CSV's folder) and may have `task`, `label`, `split` (train,
validation, test or nothing) and `group` (speaker, recording: what must not be in both halves). One clip may
have several rows, one for each task that it carries a label of. A pandas DataFrame with such columns is a table, too.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from slicer_lite.audio.decode import MEDIA, pyav
from slicer_lite.base.files import absolute, hidden, in_other_form, near_miss

# All that libsndfile reads, but for .mat, which rarely holds sound, and .raw, which has no header.
AUDIO_SUFFIXES = frozenset(
    ".wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .mp3 .mp2 .mp1 .mpga .aiff .aif .aifc .au .snd "  # noqa: SIM905
    ".caf .sph .nist .voc .sf .ircam .avr .htk .iff .svx .8svx .paf .fap .pvf .sd2 .sds .wve .xi".split()
)
# What PyAV reads besides (the extra `media`).
MEDIA_SUFFIXES = frozenset(
    ".m4a .m4b .m4v .mp4 .mov .3gp .aac .adts .webm .mka .mkv .wma .wmv .asf .avi .flv .mpg .mpeg "  # noqa: SIM905
    ".amr .ac3 .eac3 .ape .wv .tta .mpc .spx .dsf .dff .ra .rm".split()
)
_NOT_READ = frozenset({".raw", ".pcm", ".mid", ".midi"})
PATH_COLUMNS = ("path", "files", "wav", "wav_path")  # the first is ours, the others LAPE's [R]
SPLITS = ("train", "validation", "test", "")
DEFAULT_TASK = "label"  # the task's name where a CSV has labels but no column `task`
# Columns of tables that list stretches of files (AudioSet, Raven, BirdCLEF).
_STRETCH = re.compile(
    r"(start|begin|onset|end|stop|offset)([ _](time|seconds?|secs?|s|ms|frame|sample|file))*( ?\(m?s\))?"
)


@dataclass(frozen=True)
class Table:
    """Which clips there are, and what is known of them.

    Attributes:
        paths: `(N,)` absolute paths.
        labels: one row for each label that a clip carries; columns `clip` (row number in `paths`), `task`,
            `label`, `split`, `group`.
        split: `(N,)`; a clip that any task tests on is `test`, so that pre-training never hears it.
        cuts: for clips that are a stretch of their file and not all of it: start and length in seconds, by row
            number in `paths`.
    """

    paths: tuple[Path, ...]
    labels: pd.DataFrame
    split: np.ndarray
    cuts: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)


def cache_folder() -> Path:
    """Where decoded clips and the sound world are kept; `SLICER_LITE_CACHE` moves it."""
    chosen = os.environ.get("SLICER_LITE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # here, so that training works where it is not installed

    return Path(platformdirs.user_cache_path("slicer-lite"))


def read_table(
    source: str | Path | pd.DataFrame | Sequence[str | Path],
    allow_outside: bool = False,
    progress: bool = True,
) -> Table:
    """List the clips of a source.

    Args:
        source: the word `sounds` (the embedded sound world, made on first use), a folder with a `manifest.csv`,
            a folder of audio files (searched through, but for what is hidden; no labels), or a CSV file. Or a
            DataFrame with a CSV's columns, or a list of paths (a clip each, in their order); both may lead anywhere,
            and relative paths begin in the working folder. One file under several names or links is one clip, but
            in a list.
        allow_outside: let paths in a CSV, and links, lead out of the data's folder.
        progress: show a bar while the sound world is made.

    Raises:
        FileNotFoundError: the source is missing, or a folder holds no audio.
        ValueError: a CSV that is empty, lacks a column, contradicts itself or leaves its folder; a folder that
            cannot be listed.
    """
    if isinstance(source, pd.DataFrame):
        rows = source.reset_index(drop=True).astype(object)
        rows = rows.where(rows.notna(), "").astype(str)
        return _of_rows(rows, "The DataFrame", Path.cwd(), allow_outside=True)
    if not isinstance(source, str | Path):
        return _of_paths([Path(path) for path in source])
    if source == "sounds":
        if Path(source).is_dir():
            warnings.warn(
                "'sounds' means the embedded sound world. The folder of that name that is here is ./sounds.",
                stacklevel=3,
            )
        from slicer_lite.sounds import VERSION, make_sounds  # here, because SciPy takes a second

        world = make_sounds(cache_folder() / f"sounds-{VERSION}", progress=progress)
        return _read_csv(world / "manifest.csv", allow_outside=False)
    path = absolute(Path(source).expanduser())
    if not path.exists():
        path = in_other_form(path) or path
    if not path.exists():
        word = " (the word, not a Path)" if source == Path("sounds") else ""
        raise FileNotFoundError(
            f"{source} does not exist{near_miss(path)}: give a folder of audio, a CSV file, or 'sounds'{word}."
        )
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise ValueError(
                f"{source} is neither a folder nor a .csv file. Put single files in a folder, or in Python in a "
                "list; save tables of other kinds as CSV."
            )
        return _read_csv(path, allow_outside)
    if (path / "manifest.csv").exists():
        return _read_csv(path / "manifest.csv", allow_outside)
    by_suffix: dict[str, list[Path]] = {}
    for file in _files_below(path):
        by_suffix.setdefault(file.suffix.lower(), []).append(file)
    read = AUDIO_SUFFIXES | (MEDIA_SUFFIXES if MEDIA_SUFFIXES & set(by_suffix) and pyav() else set())
    files = sorted(file for suffix in read & set(by_suffix) for file in by_suffix[suffix])
    passed_over = _passed_over(
        {suffix: len(of_it) for suffix, of_it in by_suffix.items() if suffix not in read}
    )
    if not files:
        kinds = ", ".join(sorted(AUDIO_SUFFIXES))
        raise FileNotFoundError(
            f"{source} holds no audio file ({kinds}) and no manifest.csv. Hidden folders are not searched."
            f"{passed_over}"
        )
    if passed_over:
        warnings.warn(f"{path}:{passed_over}", stacklevel=3)
    files, places, _ = _each_once(files)
    if not allow_outside:
        _refuse_links_out(files, places, path)
    return make_table(files, _no_labels())


def _of_paths(paths: Sequence[Path]) -> Table:
    """The clips that somebody lists, in their order."""
    files = [absolute(path.expanduser()) for path in paths]
    for path, file in zip(paths, files, strict=True):
        if file.is_dir():
            raise ValueError(
                f"{path} is a folder: give it alone, or list its files, for instance sorted(folder.rglob('*.wav'))."
            )
    return make_table([_spelt_as_on_disk(file) for file in files], _no_labels())


def _no_labels() -> pd.DataFrame:
    return pd.DataFrame(columns=["clip", "task", "label", "split", "group"])


def _passed_over(counts: Mapping[str, int]) -> str:
    """How many files there are by suffix that hold sound and are not read, and the remedy; nothing without any."""
    sentence = ""
    for suffixes, remedy in (
        (MEDIA_SUFFIXES, f"not read without PyAV: {MEDIA}."),
        (_NOT_READ, "not read, since no header says what is in them: write them as wav or flac."),
    ):
        here = sorted((-count, suffix) for suffix, count in counts.items() if suffix in suffixes)
        if here:
            count = -sum(count for count, _ in here)
            kinds = ", ".join(f"{-count} {suffix}" for count, suffix in here)
            sentence += f" {count} file{'s are' if count > 1 else ' is'} passed over ({kinds}), {remedy}"
    return sentence


def _files_below(path: Path) -> Iterator[Path]:
    """All files below a folder but hidden ones, also in linked folders: each folder once, so that links may loop."""
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=_refuse_folder):
        # Which of several links to a folder comes first should not hang on the disk.
        folders[:] = sorted(name for name in folders if not hidden(name))
        if (place := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(place)
        yield from (Path(folder, name) for name in names if not hidden(name))


def _refuse_folder(error: OSError) -> None:
    raise ValueError(
        f"{error.filename} cannot be listed ({error.strerror}): make it readable, or move it elsewhere."
    )


def _read_csv(path: Path, allow_outside: bool) -> Table:
    if not path.is_file():
        raise ValueError(f"{path} is not a file: remove it, or put a CSV file in its place.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            rows = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                skipinitialspace=True,
                index_col=False,
            )
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty: it needs a header line and a row for each clip.") from None
    except pd.errors.ParserWarning:
        raise ValueError(
            f"{path} has rows with more fields than its header: name every column, or put quotes around "
            "what holds a comma."
        ) from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise ValueError(f"{path} cannot be read as comma-separated UTF-8 text: {reason}.") from None
    return _of_rows(rows, path, absolute(path.parent), allow_outside)


def _of_rows(rows: pd.DataFrame, path: Path | str, base: Path, allow_outside: bool) -> Table:
    """The table that rows make; `path` is what messages call them, and relative paths begin at `base`."""
    rows.columns = rows.columns.astype(str).str.strip().str.lower()
    if (twice := rows.columns[rows.columns.duplicated()]).size:
        raise ValueError(f"{path} has several columns {twice[0]!r}: keep one of them.")
    column = next((name for name in PATH_COLUMNS if name in rows), None)
    if column is None:
        hint = " It looks separated by something else than commas." if len(rows.columns) == 1 else ""
        alike = re.compile(r"(?=.)(audio|sound)?[ _]?(file[ _]?)?(name|path)?")
        if meant := [name for name in map(str, rows) if alike.fullmatch(name)]:
            hint = f" Is it {meant[0]}? Then call it path."
        raise ValueError(
            f"{path} has the columns {', '.join(rows.columns)}; one of {', '.join(PATH_COLUMNS)} must be there "
            f"and hold each clip's path.{hint}"
        )
    if rows.empty:
        raise ValueError(f"{path} lists no clips: it has a header and no rows.")
    names = rows[column].str.strip()
    if (names == "").any():
        row = int(np.flatnonzero(names == "")[0]) + 1
        raise ValueError(
            f"{path}, row {row} below the header: the column {column} is empty there. Fill it or remove the row."
        )
    # One file under two names (a.wav, ./a.wav, a link) is one clip, and in the strictest of its splits.
    different = names.unique()
    files, places, clips = _each_once([_inside(base, name, path, allow_outside) for name in different])
    if not allow_outside:
        _refuse_links_out(files, places, base)

    def text(column: str, otherwise: str = "") -> pd.Series | str:
        # é as one letter and as two is the same label.
        return rows[column].str.strip().str.normalize("NFC") if column in rows else otherwise

    labels = pd.DataFrame(
        {
            "clip": names.map(dict(zip(different, clips, strict=True))),
            "task": text("task", DEFAULT_TASK),
            "label": text("label"),
            "split": _splits(rows, path),
            "group": text("group"),
        }
    )
    stretches = [name for name in map(str, rows) if _STRETCH.fullmatch(name)]
    unused = (
        f" The column{'s' * (len(stretches) > 1)} {' and '.join(stretches)} {'are' if len(stretches) > 1 else 'is'} "
        "not used: a clip is a whole file. Cut the files into their stretches, and list those."
        if stretches
        else ""
    )
    kept = _consistent(labels, [os.path.relpath(file, base) for file in files], path, unused)
    if unused:
        warnings.warn(f"{path}:{unused}", stacklevel=4)
    _warn_of_groups_on_both_sides(kept, path)
    return make_table(files, kept, all_rows=labels)


def _inside(base: Path, name: str, csv: Path | str, allow_outside: bool) -> Path:
    """The absolute path that a CSV's entry means; it may not lead out of the CSV's folder unless allowed."""
    if "\0" in name:
        raise ValueError(f"{csv}: the path {name!r} holds a zero character. Remove that row.")
    # Tables written on Windows separate folders by backslashes.
    file = base / (name if os.sep in name or os.sep == "\\" else name.replace("\\", "/"))
    if not allow_outside and not Path(os.path.normpath(file)).is_relative_to(base):
        raise ValueError(
            f"{csv}: the path {name!r} leads out of {base}. Pass allow_outside=True (--allow-outside) if that "
            "is meant."
        )
    return _spelt_as_on_disk(file)


def _spelt_as_on_disk(file: Path) -> Path:
    return file if os.path.lexists(file) else in_other_form(file) or file


def _each_once(named: Sequence[Path]) -> tuple[list[Path], list[str], list[int]]:
    """The different ones of some files, where they lie, and which of them each of the given is."""
    files: list[Path] = []
    places: list[str] = []
    numbers: list[int] = []
    number_of: dict[str | tuple[int, int], int] = {}
    folders: dict[str, str] = {}
    for file in named:
        place, identity = _place(file, folders)
        numbers.append(number_of.setdefault(identity, len(files)))
        if numbers[-1] == len(files):
            files.append(file)
            places.append(place)
    return files, places, numbers


def _place(file: Path, folders: dict[str, str]) -> tuple[str, str | tuple[int, int]]:
    """Where a file really lies, and what tells whether two are one; `folders` remembers where folders lie.

    Of folders a million files have few.
    """
    folder, name = os.path.split(file)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    place = os.path.join(folders[folder], name)  # noqa: PTH118 (several times faster)
    try:
        state = os.lstat(place)
        if stat.S_ISLNK(state.st_mode):
            place = os.path.realpath(place)
            state = os.stat(place)  # noqa: PTH116
    except (OSError, ValueError):
        return place, place  # whoever reads it will say what is wrong
    # Hard links differ in their places. (Where files have one name each, some disks number them carelessly.)
    return place, (state.st_dev, state.st_ino) if state.st_nlink > 1 else place


def _refuse_links_out(files: Sequence[Path], places: Sequence[str], base: Path) -> None:
    """Refuse files that are links, or lie in linked folders, to somewhere outside the data's folder."""
    root = os.path.join(os.path.realpath(base), "")  # noqa: PTH118
    for file, place in zip(files, places, strict=True):
        if not place.startswith(root):
            raise ValueError(
                f"{file} is a link that leads out of {base}, to {place}. Pass allow_outside=True "
                "(--allow-outside) if that is meant."
            )


def _splits(rows: pd.DataFrame, path: Path | str) -> pd.Series | str:
    if "split" not in rows:
        return ""
    split = rows["split"].str.strip().str.lower().replace({"valid": "validation", "val": "validation"})
    unknown = sorted(set(split) - set(SPLITS))
    if unknown:
        raise ValueError(
            f"{path}: unknown split {unknown[0]!r}; a split is train, validation, test or nothing."
        )
    return split


def _consistent(labels: pd.DataFrame, names: Sequence[str], path: Path | str, hint: str = "") -> pd.DataFrame:
    """Drop repeated rows and rows without a label; refuse rows without a task, or that contradict each other."""
    labels = labels[labels["label"] != ""].drop_duplicates()
    nameless = labels[labels["task"] == ""]
    if not nameless.empty:
        first = nameless.iloc[0]
        raise ValueError(
            f"{path}: {names[first['clip']]!r} has the label {first['label']!r} and no task. Fill the column `task`, "
            "or remove it if there is one task only."
        )
    twice = labels[labels.duplicated(["clip", "task"], keep=False)]
    if not twice.empty:
        first = twice.iloc[0]
        values = twice[(twice["clip"] == first["clip"]) & (twice["task"] == first["task"])]
        raise ValueError(
            f"{path}: {names[first['clip']]!r} has contradicting rows for the task {first['task']!r} "
            f"(label, split, group: {values[['label', 'split', 'group']].values.tolist()}). Keep one of them.{hint}"
        )
    return labels.reset_index(drop=True)


def _warn_of_groups_on_both_sides(labels: pd.DataFrame, path: Path | str) -> None:
    grouped = labels[labels["group"] != ""]
    for task, rows in grouped.groupby("task", sort=False):
        both = sorted(
            set(rows["group"][rows["split"] == "train"]) & set(rows["group"][rows["split"] == "test"])
        )
        if both:
            warnings.warn(
                f"{path}, task {task!r}: {len(both)} group{'s' * (len(both) > 1)} ({both[0]!r}"
                f"{', …' * (len(both) > 1)}) {'are' if len(both) > 1 else 'is'} in its train and in its test split. "
                "A probe is then tested on what it partly knows: move each group to one side.",
                stacklevel=5,
            )


def make_table(
    files: Sequence[Path],
    labels: pd.DataFrame,
    all_rows: pd.DataFrame | None = None,
    cuts: Mapping[int, tuple[float, float]] | None = None,
) -> Table:
    """A table whose clips are in the strictest split of their rows (`all_rows`, or `labels`)."""
    split = np.full(len(files), "", dtype=object)
    rows = labels if all_rows is None else all_rows
    for name in ("train", "validation", "test"):  # the last one wins
        split[rows.loc[rows["split"] == name, "clip"].to_numpy(dtype=int)] = name
    return Table(tuple(files), labels, split, cuts or {})
