"""What a task is: facts, a reader of its folder, and the rules that every split must keep."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slicer_lite.audio.table import Table, make_table
from slicer_lite.base.files import absolute, hidden
from slicer_lite.lape.tasks.download import Archive, fetch

SPLITS = ("train", "validation", "test")


class Row(NamedTuple):
    """One clip of a task.

    Attributes:
        path: its file.
        label: its class.
        split: train, validation or test; test everywhere in a task of several folds.
        group: what must not be in both halves, such as the speaker; in a task of several folds, the fold.
        cut: start and length in seconds, where the clip is only a stretch of its file.
    """

    path: Path
    label: str
    split: str
    group: str = ""
    cut: tuple[float, float] | None = None


@dataclass(frozen=True)
class Task:
    """One of LAPE's tasks: where its data are from, how they are split, and how to read them from disk.

    Attributes:
        id: short name, such as `us8k`.
        title: what is told apart.
        dataset: name of the data set.
        classes: their names; none where the data set names its own (LibriSpeech's speakers).
        class_count: how many classes there are.
        source: where the data are described or asked for.
        licence: of the data, as their authors state it, or what is not known of it.
        layout: what is expected below the root folder.
        split: the split rule and its source; `[ours]` marks what is decided here.
        published: clips per split as published, `all` for those of all splits; figures that could not be
            verified are absent.
        published_in: the source of `published`.
        reader: turns the root folder into rows.
        archives: what `download` fetches; none where the data must be asked for or are too scattered.
        obtain: how to get the data in that case.
        absent: classes that may be in the train split alone.
        folds: 1, or the number of folds: each is the test split once, and the column `group` names it.
        metric: what the probe reports.
    """

    id: str
    title: str
    dataset: str
    class_count: int
    source: str
    licence: str
    layout: str
    split: str
    published: Mapping[str, int]
    published_in: str
    reader: Callable[[Path], list[Row]] = field(repr=False)
    archives: tuple[Archive, ...] = field(default=(), repr=False)
    obtain: str = ""
    classes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    folds: int = 1
    metric: str = "accuracy"

    def read(self, root: str | Path) -> Table:
        """The table of the data set below `root`.

        Raises:
            FileNotFoundError: the folder, a list or a clip is missing; says which.
            ValueError: a list that cannot be understood, a class that is missing or unknown, a group that is
                in both halves, a clip that is listed twice.
        """
        rows = self.reader(_folder(root))
        for kind, problems in _problems(self, rows):
            if problems:
                raise kind(f"{self.id}: {' '.join(problems)}")
        return _as_table(self.id, rows)

    def check(self, root: str | Path) -> list[str]:
        """Everything that is wrong with the data set below `root`, and where its size is not the published one."""
        try:
            rows = self.reader(_folder(root))
        except (FileNotFoundError, ValueError) as error:
            return [str(error)]
        wrong = [problem for _, problems in _problems(self, rows) for problem in problems]
        return wrong + self.differences([row.split for row in rows])

    def download(self, root: str | Path) -> None:
        """Fetch the data set and unpack it below `root`, which is made if need be.

        Raises:
            ValueError: it cannot be fetched automatically (says how to get it), or a file is damaged.
            OSError: the network or the disk failed.
        """
        if not self.archives:
            raise ValueError(f"{self.dataset} cannot be downloaded automatically. {self.obtain}")
        path = Path(root).expanduser()
        path.mkdir(parents=True, exist_ok=True)
        fetch(self.archives, path)

    def differences(self, splits: Sequence[str]) -> list[str]:
        """Where the numbers of clips are not the published ones, in sentences.

        Args:
            splits: each clip's split.
        """
        counts = {**Counter(splits), "all": len(splits)}
        return [
            f"{'All splits have' if name == 'all' else f'The {name} split has'} {counts.get(name, 0):,} clips, not "
            f"the published {count:,} ({self.published_in})."
            for name, count in self.published.items()
            if counts.get(name, 0) != count
        ]

    def rounds(self, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """The rows of this task with the column `split` as each round of testing needs it.

        Args:
            rows: `Table.labels` or `Clips.rows`, of this task.

        Yields:
            The round's name and its rows: once and as they are, or one round a fold, which is then the test
            split and all others the train split. Clips of one's own under the name of a task of folds, with
            splits of their own (not test everywhere, as the task's reader has it), keep these.

        Raises:
            ValueError: a clip of a task of folds that names none.
        """
        if self.folds == 1 or (rows["split"] != "test").any():
            yield "", rows
            return
        if blank := int((rows["group"] == "").sum()):
            raise ValueError(
                f"{blank} of {len(rows)} clips of the task {self.id!r} name no fold: give each the name of one in "
                "the column `group`, or splits of your own in the column `split`."
            )
        for fold in sorted(rows["group"].unique(), key=lambda name: (len(name), name)):
            yield fold, rows.assign(split=(rows["group"] == fold).map({True: "test", False: "train"}))


def draw(names: Iterable[str], count: int) -> set[str]:
    """`count` of the names, the same on every machine: those whose SHA-256 comes first. [ours]"""
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count])


def require(*paths: Path) -> None:
    """Raise a FileNotFoundError that names every one of the files and folders that is missing."""
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise FileNotFoundError(f"Missing: {', '.join(missing)}.")


def read_lines(path: Path) -> list[str]:
    """A list file's lines, without empty ones.

    Raises:
        FileNotFoundError, ValueError: it is missing, or no UTF-8 text.
    """
    require(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: take it from the data set anew.") from None
    return [line.strip() for line in lines if line.strip()]


def read_csv(path: Path, columns: Sequence[str], separator: str = ",") -> pd.DataFrame:
    """A metadata table as text.

    Raises:
        FileNotFoundError, ValueError: it is missing, or has not the columns it should have.
    """
    require(path)
    try:
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a table: {error}.") from None
    lacking = [name for name in columns if name not in table]
    if lacking:
        raise ValueError(f"{path} lacks the column {lacking[0]!r}; it has {', '.join(table.columns)}.")
    return table


def files_below(folder: Path, suffixes: Sequence[str], depth: int) -> list[Path]:
    """Files with one of the suffixes, `depth` folders below `folder`, in order; hidden files are left out.

    (Copies made on a Mac hold a hidden `._name.wav` beside every `name.wav`.)
    """
    paths = folder.glob("/".join(["*"] * (depth + 1)))
    return sorted(
        f for f in paths if f.suffix.lower() in suffixes and not any(map(hidden, f.relative_to(folder).parts))
    )


def _folder(root: str | Path) -> Path:
    path = Path(root).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path}: --root names the folder that holds the data sets."
        )
    return absolute(path)


_Problems = tuple[type[Exception], list[str]]


def _problems(task: Task, rows: Sequence[Row]) -> list[_Problems]:
    """What is wrong with the rows, by kind: files first, since the rest may follow from them."""
    return [
        (FileNotFoundError, _missing_files(rows)),
        (ValueError, [*_listed_twice(rows), *_wrong_classes(task, rows), *_shared_groups(task, rows)]),
    ]


def _missing_files(rows: Sequence[Row]) -> list[str]:
    paths = list(dict.fromkeys(row.path for row in rows))
    # One listing a folder: asking for each of 150,000 files takes minutes on a network disk.
    names_in = {folder: _names(folder) for folder in {path.parent for path in paths}}
    missing = [str(path) for path in paths if path.name not in names_in[path.parent]]
    if not missing:
        return []
    return [f"{len(missing):,} of {len(paths):,} files are missing: {_some(missing)}."]


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()


def _listed_twice(rows: Sequence[Row]) -> list[str]:
    twice = [str(path) for (path, _), n in Counter((row.path, row.cut) for row in rows).items() if n > 1]
    return [f"{len(twice):,} clips are listed more than once: {_some(twice)}."] if twice else []


def _wrong_classes(task: Task, rows: Sequence[Row]) -> list[str]:
    parts: dict[str, set[str]] = {} if task.folds > 1 else {"train split": set(), "test split": set()}
    for row in rows:
        part = f"fold {row.group}" if task.folds > 1 else f"{row.split} split"
        parts.setdefault(part, set()).add(row.label)
    everywhere = set().union(*parts.values())
    classes = set(task.classes) or everywhere
    wrong = []
    if unknown := sorted(everywhere - classes):
        wrong.append(f"Unknown classes: {_some(unknown)}.")
    if len(classes) != task.class_count:
        wrong.append(f"There are {len(classes):,} classes, not {task.class_count:,}.")
    for name, labels in parts.items():
        expected = classes - (set() if name == "train split" else set(task.absent))
        if name != "validation split" and (lacking := sorted(expected - labels)):
            wrong.append(f"The {name} has no clip of {len(lacking):,} classes: {_some(lacking)}.")
    if task.folds > 1 and len(parts) != task.folds:
        wrong.append(f"There are {len(parts)} folds, not {task.folds}.")
    return wrong


def _shared_groups(task: Task, rows: Sequence[Row]) -> list[str]:
    if task.folds > 1:
        return []
    groups = {split: {row.group for row in rows if row.split == split and row.group} for split in SPLITS}
    shared = sorted(groups["train"] & (groups["validation"] | groups["test"]))
    if not shared:
        return []
    return [f"{len(shared):,} speakers or recordings are in the train split and outside it: {_some(shared)}."]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _as_table(task: str, rows: Sequence[Row]) -> Table:
    labels = pd.DataFrame(
        {
            "clip": range(len(rows)),
            "task": task,
            "label": [row.label for row in rows],
            "split": [row.split for row in rows],
            "group": [row.group for row in rows],
        }
    )
    cuts = {number: row.cut for number, row in enumerate(rows) if row.cut is not None}
    return make_table([row.path for row in rows], labels, cuts=cuts)
