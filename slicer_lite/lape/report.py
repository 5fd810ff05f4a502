"""The results of many runs of `lape run` as tables, with published figures beside them, and as a figure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slicer_lite.base.files import parse_json, write_durably, write_json
from slicer_lite.explore import figures
from slicer_lite.lape.run import NAMES, TRAINED_ENCODER
from slicer_lite.lape.tasks import TASKS
from slicer_lite.probe.evaluate import PLAIN, basis, lines_of, over_tasks

_OF_A_SIZE = (NAMES["untrained"], NAMES["supervised"])  # that an encoder of another size does otherwise
SMALL = r"{:.1f} {{\scriptsize({:.1f}--{:.1f})}}"  # an accuracy and its interval in LaTeX
# What LaTeX would take for a command.
_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
)


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
        folders: of one, its trained encoder is called so; of several, each is called by its folder's name. Baselines
            are those of the first folder that has them; what depends on the encoder's size (untrained, supervised)
            has a column for each size, called by it where there are several.

    Returns:
        `tasks`: for each task, for each name `accuracy`, `low`, `high`, `clips`, `groups` and `by_group`; `average`:
        of each name over the tasks that all names have, None if there is none; `average_interval` and `differences`
        as of `evaluate`; `about`: the protocol, and the whole results of each folder by its name.

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
    by_folder = {name: _read_folder(Path(folder)) for name, folder in zip(names, folders, strict=True)}
    every = [result for results in by_folder.values() for result in results.values()]
    sizes = {_size(result) for result in every}

    def shown_as(name: str, folder: str, result: Mapping[str, Any]) -> str:
        if name == TRAINED_ENCODER:
            return folder if len(by_folder) > 1 else name
        return f"{name}, {_size(result)}" if name in _OF_A_SIZE and len(sizes) > 1 else name

    reserved = {shown_as(name, "", result) for result in every for name in NAMES.values()}
    taken = set(names) & {*reserved, *NAMES.values(), TRAINED_ENCODER} if len(names) > 1 else set()
    if taken:
        raise ValueError(
            f"Rename the folder {min(taken)!r}: of several folders none may be called as a baseline is."
        )
    order = list(dict.fromkeys(task for results in by_folder.values() for task in results))
    order.sort(key=lambda task: (list(TASKS).index(task) if task in TASKS else len(TASKS), task))
    tasks: dict[str, dict[str, Any]] = {task: {} for task in order}
    kind: dict[str, str] = {}  # what each column is called in the files
    for folder, results in by_folder.items():
        for task, result in results.items():
            for name, cell in result["results"].items():
                kept = {key: cell[key] for key in ("accuracy", "low", "high", "clips")}
                kept |= {key: cell.get(key) for key in ("groups", "by_group")}  # earlier versions had none
                column = shown_as(name, folder, result)
                kind[column] = name
                tasks[task].setdefault(column, kept)
    # What was trained comes first, then each baseline, of all sizes.
    kinds = list(dict.fromkeys([TRAINED_ENCODER, *kind.values()]))
    columns = sorted(kind, key=lambda name: kinds.index(kind[name]))
    shared = [row for row in tasks.values() if len(row) == len(columns)]
    return {
        "tasks": {task: {name: row[name] for name in columns if name in row} for task, row in tasks.items()},
        **over_tasks(shared, columns),
        "about": {"protocol": _protocol(by_folder), "published": PUBLISHED_IN, "results": by_folder},
    }


def as_markdown(results: Mapping[str, Any]) -> str:
    """The accuracies of `gather` as a Markdown table, with published figures beside LAPE's own tasks."""
    head, *rows = _cells(results, PLAIN)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
    return f"{table}\n\n{_caption(results)}\n"


def as_latex(results: Mapping[str, Any]) -> str:
    """The same as a LaTeX table; it needs the package `booktabs`."""
    head, *rows = _cells(results, SMALL)
    # Names are anybody's: of tasks in the first column, of encoders in the heading.
    head = [name.translate(_LATEX) for name in head]
    rows = [[task.translate(_LATEX), *cells] for task, *cells in rows]
    body = [" & ".join(line) + r" \\" for line in (head, *rows)]
    tasks = 1 + len(results["tasks"])
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\caption{" + _caption(results).translate(_LATEX) + "}",
        r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
        r"\toprule",
        body[0],
        r"\midrule",
        *body[1:tasks],
        r"\midrule",
        *body[tasks:],
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
    existing = [str(file) for file in files if file.exists()]
    if existing:
        raise ValueError(f"{existing[0]} is there already: choose another folder, or remove it.")
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
    """Heading, and the lines of `lines_of` with the published figures behind them."""
    names = list(results["average"])
    published = PUBLISHED if any(task in TASKS for task in results["tasks"]) else {}
    lines = [["task", *names, *published]]
    for line in lines_of(results, names, form):
        quoted = [
            figures_of.get(line[0]) if line[0] in results["tasks"] else None
            for figures_of in published.values()
        ]
        lines.append([*line, *("" if value is None else f"{value:.1f}" for value in quoted)])
    return lines


def _caption(results: Mapping[str, Any]) -> str:
    about = results["about"]
    lacking = any(len(row) < len(results["average"]) for row in results["tasks"].values())
    caption = f"Test accuracy in per cent with 95 % intervals. Protocol {about['protocol']}. {basis(results)}"
    if lacking:
        caption += " The average is over the tasks that all columns have."
    if any(task in TASKS for task in results["tasks"]):
        caption += f" {PUBLISHED_IN}"
    return caption


def _read_folder(folder: Path) -> dict[str, dict[str, Any]]:
    results = {}
    for path in sorted(folder.expanduser().glob("*.json")):
        try:
            result = parse_json(path.read_text())
            results[result["task"]] = {"results": dict(result["results"]), "about": dict(result["about"])}
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} holds no results of `lape run`: move it elsewhere.") from None
    if not results:
        raise FileNotFoundError(f"{folder} holds no results: make some with `slicer-lite lape run`.")
    return results


def _size(result: Mapping[str, Any]) -> str:
    """An encoder's size in words."""
    weights = result["about"].get("weights", {})
    kind = weights.get("encoder", f"{weights.get('channels', '?')} channels")
    return f"{kind}, d = {weights.get('dim', '?')}"


def _protocol(by_folder: Mapping[str, Mapping[str, Any]]) -> str:
    """The one protocol of all results; also sees that each task was measured on the same data."""
    every = [(task, result["about"]) for results in by_folder.values() for task, result in results.items()]
    protocols = sorted({about["protocol"] for _, about in every})
    if len(protocols) > 1:
        raise ValueError(f"These results are of different protocols: {'; '.join(protocols)}.")
    for task in {task for task, _ in every}:
        data = [about["data"] for name, about in every if name == task]
        if len({(of["sha256"], of.get("rows")) for of in data}) > 1:
            raise ValueError(f"The results of the task {task!r} were measured on different data.")
    return protocols[0]
