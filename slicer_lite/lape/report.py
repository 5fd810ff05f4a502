"""Every task of a data set beside the baselines; and the results of many runs as tables and a figure."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

import slicer_lite
from slicer_lite.audio.store import Clips
from slicer_lite.base.files import parse_json, write_durably, write_json
from slicer_lite.explore import figures
from slicer_lite.explore.embed import embed, mel_statistics
from slicer_lite.lape.run import NAMES, PROTOCOLS
from slicer_lite.lape.run import TRAINED as TRAINED_ENCODER
from slicer_lite.lape.tasks import TASKS
from slicer_lite.probe.linear import check_features, check_rows, check_seed, majority_of, quick_probe
from slicer_lite.share.weights import Pretrained, untrained

TRAINED = "slicer"  # encoders that were trained by another method are called by its name
UNTRAINED, MEL, MAJORITY = NAMES["untrained"], NAMES["mel"], NAMES["majority"]
# What LaTeX would take for a command.
_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
)


def features(
    pretrained: Pretrained, clips: Clips, seed: int = 0, progress: bool = False, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """What probes are given: the trained embeddings, and two baselines that need no training.

    Args:
        pretrained: of `slicer_lite.load`; the untrained encoder has its architecture and statistics.
        clips: any.
        seed: of the untrained encoder's weights.
        progress: show bars.
        device: that the encoders run on.

    Returns:
        `(N, D)` arrays by name, each with a D of its own.
    """
    plain = untrained(pretrained, seed)
    return {
        pretrained.config.method: embed(pretrained.encoder.to(device), clips, progress=progress),
        UNTRAINED: embed(plain.encoder.to(device), clips, progress=progress),
        MEL: mel_statistics(clips, progress=progress),
    }


def evaluate(
    pretrained: Pretrained,
    clips: Clips,
    seed: int = 0,
    progress: bool = False,
    device: str = "cpu",
    given: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Probe every task of `clips` with a trained encoder and with the baselines.

    Args:
        pretrained: of `slicer_lite.load`.
        clips: with at least one task that has a train and a test split.
        seed: of the untrained encoder's weights and the probes' folds.
        progress: show bars.
        device: that the encoders run on.
        given: features to probe, if they have been computed already or others are wanted; by default `features`.

    Returns:
        `tasks`: for each task, for each kind of features and the majority class, `accuracy` with `low` and
        `high` (95 %) and the number of `clips`; `average`: the mean accuracy over tasks of each; `about`: what
        is needed to repeat it.

    Raises:
        ValueError: no task has both a train and a test split, or `given` are not of these clips; a seed that is none.
    """
    check_seed(seed)
    tasks = probed_tasks(clips)
    probed = features(pretrained, clips, seed, progress, device) if given is None else given
    for name, x in probed.items():
        check_features(x, clips, name)
    results = {}
    for task in tasks:
        rows = _rows(clips, task)
        results[task] = {name: quick_probe(x, rows, seed) for name, x in probed.items()}
        results[task][MAJORITY] = majority_of(rows)
    names = [*probed, MAJORITY]
    return {
        "tasks": {
            task: {name: accuracy.to_dict() for name, accuracy in row.items()}
            for task, row in results.items()
        },
        "average": {name: float(np.mean([row[name].accuracy for row in results.values()])) for name in names},
        "about": {
            "protocol": f"quick: {PROTOCOLS['quick']}",
            "step": pretrained.step,
            "config": pretrained.config.to_dict(),
            "clips": {"number": len(clips), "fingerprint": clips.fingerprint()},
            "seed": seed,
            "versions": {
                "slicer_lite": slicer_lite.__version__,
                "torch": torch.__version__,
                "scikit-learn": sklearn.__version__,
            },
        },
    }


def probed_tasks(clips: Clips) -> list[str]:
    """The tasks of `clips` that have a train and a test split.

    Those whose labels do not fit are left out with a warning.

    Raises:
        ValueError: none is left.
    """
    tasks, left_out = [], []
    for task in clips.tasks:
        rows = _rows(clips, task)
        if {"train", "test"} <= set(rows["split"]):
            try:
                check_rows(rows)
                tasks.append(task)
            except ValueError as error:
                left_out.append((task, error))
    if not tasks:
        found = "".join(
            f" {task}: {', '.join(split or 'no split' for split in sorted(set(_rows(clips, task)['split'])))}."
            for task in clips.tasks[:5]
        )
        raise ValueError(
            "No task can be probed: a task needs labelled clips in a train and in a test split (columns `path`, "
            "`label` and `split` of a file manifest.csv in the clips' folder, or of a CSV file given as data). "
            f"Found: {len(clips)} clip{'s' * (len(clips) > 1)}"
            f"{'; their splits:' if found else ' without labels.'}{found or _tables(clips)}"
            + "".join(f" {task}: {reason}" for task, reason in left_out)
        )
    for task, reason in left_out:
        warnings.warn(f"{task}: left out. {reason}", stacklevel=3)
    return tasks


def _tables(clips: Clips) -> str:
    """A sentence on tables that lie where the clips do, and that nobody reads by themselves."""
    folder = Path(os.path.commonpath([path.parent.absolute() for path in clips.paths]))
    found = sorted(path.name for path in folder.glob("[!.]*") if path.suffix in (".csv", ".tsv", ".jsonl"))
    return f" {folder} holds {', '.join(found[:3])}, which are not read by themselves." if found else ""


def as_text(results: Mapping[str, Any]) -> str:
    """The accuracies of `evaluate` as a table for the terminal, in per cent."""
    names = list(results["average"])
    width = max(len("average"), *map(len, results["tasks"]))
    columns = [max(len(name), len("100.0 (80.0 to 100.0)")) for name in names]
    lines = [" " * width + "  " + "  ".join(n.rjust(c) for n, c in zip(names, columns, strict=True))]
    for task, row in results["tasks"].items():
        cells = [
            f"{100 * r['accuracy']:.1f} ({100 * r['low']:.1f} to {100 * r['high']:.1f})" for r in row.values()
        ]
        lines.append(
            task.ljust(width) + "  " + "  ".join(c.rjust(w) for c, w in zip(cells, columns, strict=True))
        )
    cells = [f"{100 * value:.1f}" for value in results["average"].values()]
    lines.append(
        "average".ljust(width) + "  " + "  ".join(c.rjust(w) for c, w in zip(cells, columns, strict=True))
    )
    return "\n".join(lines)


def _rows(clips: Clips, task: str) -> Any:
    return clips.rows[clips.rows["task"] == task]


# Published figures, in per cent, of those tasks whose figures could be checked. An empty column is for the reader.
PUBLISHED: dict[str, dict[str, float]] = {
    "BYOL-A, d = 512": {
        "nsynth": 69.1,
        "us8k": 78.2,
        "voxceleb1_sid": 33.4,
        "voxforge": 83.5,
        "sc_v2_12": 86.5,
        "sc_v2_35": 88.9,
    },
    "BYOL-A, d = 2048": {
        "nsynth": 74.1,
        "us8k": 79.1,
        "voxceleb1_sid": 40.1,
        "voxforge": 90.2,
        "sc_v2_12": 91.0,
        "sc_v2_35": 92.2,
    },
    "SLICER, as published": {},
}
PUBLISHED_IN = (
    "BYOL-A: README of github.com/nttcslab/byol-a (Niizumi et al., arXiv 2103.06695), pre-trained on AudioSet, other "
    "probes and windows. The table of the SLICER paper (arXiv 2211.01519) could not be checked: its column is empty."
)


def gather(folders: Sequence[str | Path]) -> dict[str, Any]:
    """The results that `lape run` has left in one or several folders, side by side.

    Args:
        folders: of one, its trained encoder is called so; of several, each is called by its folder's name, and
            baselines are those of the first folder that has them.

    Returns:
        `tasks`: for each task, for each name `accuracy`, `low`, `high` and `clips`; `average`: of each name over
        the tasks that all names have, None if there is none; `about`: the protocol, and the whole results of each
        folder by its name.

    Raises:
        FileNotFoundError: a folder without results.
        ValueError: no folder; a file that holds no results; folders of one name or of a baseline's, of different
            protocols or different data.
    """
    if not folders:
        raise ValueError("No folder of results is given: give one that `lape run` has written.")
    names = [Path(folder).absolute().name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"The folders must have different names, got {', '.join(names)}.")
    taken = set(names) & {*NAMES.values(), TRAINED_ENCODER} if len(names) > 1 else set()
    if taken:
        raise ValueError(
            f"Rename the folder {min(taken)!r}: of several folders none may be called as a baseline is."
        )
    found = {name: _read_folder(Path(folder)) for name, folder in zip(names, folders, strict=True)}
    order = list(dict.fromkeys(task for results in found.values() for task in results))
    order.sort(key=lambda task: (list(TASKS).index(task) if task in TASKS else len(TASKS), task))
    tasks: dict[str, dict[str, Any]] = {task: {} for task in order}
    for folder, results in found.items():
        for task, result in results.items():
            for name, cell in result["results"].items():
                shown = folder if name == TRAINED_ENCODER and len(found) > 1 else name
                tasks[task].setdefault(
                    shown, {key: cell[key] for key in ("accuracy", "low", "high", "clips")}
                )
    columns = list(dict.fromkeys(name for row in tasks.values() for name in row))
    # What was trained comes first, then the baselines.
    columns.sort(key=lambda name: name not in (*names, TRAINED_ENCODER))
    shared = [row for row in tasks.values() if len(row) == len(columns)]
    return {
        "tasks": {task: {name: row[name] for name in columns if name in row} for task, row in tasks.items()},
        "average": {
            name: float(np.mean([row[name]["accuracy"] for row in shared])) if shared else None
            for name in columns
        },
        "about": {"protocol": _protocol(found), "published": PUBLISHED_IN, "results": found},
    }


def as_markdown(results: Mapping[str, Any]) -> str:
    """The accuracies of `gather` as a Markdown table, with published figures beside LAPE's own tasks."""
    head, *rows, average = _cells(results, "{:.1f} ({:.1f} to {:.1f})")
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows, average]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
    return f"{table}\n\n{_caption(results)}\n"


def as_latex(results: Mapping[str, Any]) -> str:
    """The same as a LaTeX table; it needs the package `booktabs`."""
    head, *rows, average = _cells(results, r"{:.1f} {{\scriptsize({:.1f}--{:.1f})}}")
    # Names are anybody's: of tasks in the first column, of encoders in the heading.
    head = [name.translate(_LATEX) for name in head]
    rows = [[task.translate(_LATEX), *cells] for task, *cells in rows]
    body = [" & ".join(line) + r" \\" for line in (head, *rows, average)]
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\caption{" + _caption(results).translate(_LATEX) + "}",
        r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
        r"\toprule",
        body[0],
        r"\midrule",
        *body[1:-1],
        r"\midrule",
        body[-1],
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def write_report(folders: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Write `table.md`, `table.tex`, `figure.png` and `results.json` of the results in the folders.

    Raises:
        ValueError: one of these files is in `out` already, or `out` is one of the folders; and see `gather`.
    """
    results = gather(folders)
    out = Path(out).expanduser()
    if out.resolve() in [Path(folder).expanduser().resolve() for folder in folders]:
        raise ValueError(f"{out} holds the results that are reported: choose another folder for the report.")
    files = [out / name for name in ("table.md", "table.tex", "figure.png", "results.json")]
    there = [str(file) for file in files if file.exists()]
    if there:
        raise ValueError(f"{there[0]} is there already: choose another folder, or remove it.")
    out.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    figures.probe_bars(results).savefig(picture, dpi=150)
    table, latex, figure, everything = files
    write_durably(table, as_markdown(results).encode())
    write_durably(latex, as_latex(results).encode())
    write_durably(figure, picture.getvalue())
    write_json(everything, results)
    return files


def _cells(results: Mapping[str, Any], form: str) -> list[list[str]]:
    """Heading, a line a task, and the averages; an empty cell for what is not known."""
    names = list(results["average"])
    published = PUBLISHED if any(task in TASKS for task in results["tasks"]) else {}
    lines = [["task", *names, *published]]
    for task, row in results["tasks"].items():
        cells = [
            form.format(*(100 * row[name][key] for key in ("accuracy", "low", "high"))) if name in row else ""
            for name in names
        ]
        quoted = [figures_of.get(task) for figures_of in published.values()]
        lines.append([task, *cells, *("" if value is None else f"{value:.1f}" for value in quoted)])
    averages = ["" if value is None else f"{100 * value:.1f}" for value in results["average"].values()]
    return [*lines, ["average", *averages, *[""] * len(published)]]


def _caption(results: Mapping[str, Any]) -> str:
    about = results["about"]
    lacking = any(len(row) < len(results["average"]) for row in results["tasks"].values())
    said = f"Test accuracy in per cent with 95 % intervals. Protocol {about['protocol']}."
    if lacking:
        said += " The average is over the tasks that all columns have."
    if any(task in TASKS for task in results["tasks"]):
        said += f" {PUBLISHED_IN}"
    return said


def _read_folder(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(folder.expanduser().glob("*.json")):
        try:
            result = parse_json(path.read_text())
            found[result["task"]] = {"results": dict(result["results"]), "about": dict(result["about"])}
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} holds no results of `lape run`: move it elsewhere.") from None
    if not found:
        raise FileNotFoundError(f"{folder} holds no results: make some with `slicer-lite lape run`.")
    return found


def _protocol(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The one protocol of all results; also sees that each task was measured on the same data."""
    every = [(task, result["about"]) for results in found.values() for task, result in results.items()]
    protocols = sorted({about["protocol"] for _, about in every})
    if len(protocols) > 1:
        raise ValueError(f"These results are of different protocols: {'; '.join(protocols)}.")
    for task in {task for task, _ in every}:
        data = [about["data"] for name, about in every if name == task]
        if len({(of["sha256"], of.get("rows")) for of in data}) > 1:
            raise ValueError(f"The results of the task {task!r} were measured on different data.")
    return protocols[0]
