"""Figures that notebooks, the command line and the documentation share.

They are made without pyplot, whose global state widgets and threads disturb.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from slicer_lite.config import F_MAX, F_MIN, HOP, SAMPLE_RATE

# Colours that stay apart for colour-blind readers (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
_LISTED = 24  # groups at most in a legend
_MARKERS = ("o", "^", "s")  # where there are more groups than colours


def show_logmel(axes: Axes, lms: np.ndarray, title: str = "", **imshow: float) -> None:
    """Draw a log-mel `(64, T)`, or `(1, 64, T)`, with seconds and hertz on its axes."""
    lms = np.asarray(lms).reshape(-1, np.shape(lms)[-1])
    seconds = lms.shape[1] * HOP / SAMPLE_RATE
    axes.imshow(lms, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, len(lms)), **imshow)  # type: ignore[arg-type]
    frequencies = (100, 500, 1000, 2000, 4000)
    axes.set_yticks([_band(f) * len(lms) for f in frequencies], [str(f) for f in frequencies])
    axes.set(title=title, xlabel="time (s)", ylabel="frequency (Hz)")


def _band(frequency: float) -> float:
    """Where a frequency lies between the lowest and the highest band of the Slaney mel scale, from 0 to 1."""

    def mel(f: float) -> float:  # linear below 1 kHz, logarithmic above
        return 3 * f / 200 if f < 1000 else 15 + 27 * np.log(f / 1000) / np.log(6.4)

    return (mel(frequency) - mel(F_MIN)) / (mel(F_MAX) - mel(F_MIN))


def sound(waveform: np.ndarray) -> Any:
    """A player for a notebook: `(S,)` in [-1, 1] at 16 kHz, at its true level, as MP3 to keep files small."""
    import soundfile
    from IPython.display import Audio

    content = io.BytesIO()
    soundfile.write(content, waveform, SAMPLE_RATE, format="MP3")
    player = Audio(data=content.getvalue())
    player.mimetype = "audio/mpeg"
    return player


def logmel_grid(
    pictures: Sequence[np.ndarray], titles: Sequence[str], columns: int = 4, label: str = ""
) -> Figure:
    """Log-mels `(64, T)` side by side in rows of `columns`, on one colour scale with `label` as its name."""
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(2.6 * columns + 1, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    low = min(float(np.min(p)) for p in pictures)
    high = max(float(np.max(p)) for p in pictures)
    for place, picture, title in zip(axes.flat, pictures, titles, strict=False):
        show_logmel(place, picture, title, vmin=low, vmax=high)
        place.images[0].set_interpolation("nearest")  # sharp cells, and PNGs of a quarter of the size
        place.label_outer()
    for place in axes.flat[len(pictures) :]:
        place.set_axis_off()
    figure.colorbar(axes.flat[0].images[0], ax=axes, label=label, aspect=12 * rows)
    return figure


def show_matrix(
    axes: Axes,
    values: np.ndarray,
    title: str = "",
    rows: str = "",
    columns: str = "",
    framed: Sequence[tuple[int, int]] = (),
) -> None:
    """Draw a small matrix `(R, C)` and write its numbers into it.

    Args:
        rows, columns: names of its axes.
        framed: (row, column) of the cells to draw a frame around.
    """
    values = np.asarray(values)
    axes.imshow(values, cmap="cividis", aspect="equal")
    middle = (values.max() + values.min()) / 2
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < middle else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    for row, column in framed:
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=3))
    axes.set_xticks(range(values.shape[1]))
    axes.set_yticks(range(values.shape[0]))
    axes.set(title=title, xlabel=columns, ylabel=rows)


def show_box(
    axes: Axes, canvas: np.ndarray, box: Sequence[int], left: int, width: int, title: str = ""
) -> None:
    """Draw a crop's canvas `(64, 144)`, where the input lies on it (dashed) and the box that is cut out.

    Args:
        box: top, left, height, width in bins; row 0 of the canvas is the lowest band.
        left, width: of the input on the canvas, in frames.
    """
    axes.imshow(canvas, origin="lower", aspect="auto", cmap="magma", interpolation="nearest")
    bottom, begin, height, length = (int(v) for v in box)
    axes.add_patch(
        Rectangle((left - 0.5, -0.5), width, len(canvas), fill=False, edgecolor="white", linestyle="--")
    )
    cut = Rectangle((begin - 0.5, bottom - 0.5), length, height, fill=False, edgecolor=COLOURS[5])
    cut.set(linewidth=2.5, clip_on=False)  # it may lie on the canvas's edge
    axes.add_patch(cut)
    axes.set(title=title, xlabel="canvas (frames of 10 ms)", ylabel="mel band")


def show_groups(
    axes: Axes,
    points: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    title: str = "",
    order: Sequence[str] | None = None,
) -> None:
    """Scatter `(N, 2)` points, a colour and a marker for each group; clips without a group are grey.

    Args:
        order: all groups there are, such that a group looks alike in several pictures of which not all have it; by
            default those of `groups`, sorted. A legend lists those of `groups`, if they are not more than 24.
    """
    groups = np.asarray(groups)
    names = sorted(set(groups) - {""}) if order is None else list(order)
    place = {name: number for number, name in enumerate(names)}
    number = np.array([place.get(group, -1) for group in groups])  # (N,)
    axes.scatter(points[number < 0, 0], points[number < 0, 1], s=6, color="0.8", linewidth=0)
    looks = [
        (COLOURS[n % len(COLOURS)], _MARKERS[n // len(COLOURS) % len(_MARKERS)]) for n in range(len(names))
    ]
    for marker in _MARKERS:
        mine = np.array([n >= 0 and looks[n][1] == marker for n in number], dtype=bool)
        if mine.any():
            colours = [looks[n][0] for n in number[mine]]
            axes.scatter(points[mine, 0], points[mine, 1], s=12, c=colours, marker=marker, linewidth=0)
    present = np.unique(number[number >= 0])
    if 0 < len(present) <= _LISTED:
        handles = [
            Line2D([], [], linestyle="", color=colour, marker=marker, markeredgewidth=0)
            for colour, marker in (looks[n] for n in present)
        ]
        legend = axes.legend(
            handles,
            [""] * len(present),
            frameon=False,
            fontsize=8,
            loc="center left",
            bbox_to_anchor=(1, 0.5),
        )
        # Named here, since a legend leaves out names that begin with _.
        for text, n in zip(legend.get_texts(), present, strict=True):
            text.set_text(names[n])
    more = f" ({len(present)} labels)" if len(present) > _LISTED else ""
    axes.set(title=f"{title}{more}", xticks=[], yticks=[])


_UNKNOWN = {"accuracy": np.nan, "low": None, "high": None}


def show_numbers(axes: Axes, points: np.ndarray, values: np.ndarray, title: str = "") -> None:
    """Scatter `(N, 2)` points, coloured by `(N,)` numbers, with a colour bar."""
    drawn = axes.scatter(points[:, 0], points[:, 1], s=12, c=values, cmap="viridis", linewidth=0)
    axes.figure.colorbar(drawn, ax=axes)
    axes.set(title=title, xticks=[], yticks=[])


def probe_bars(results: Mapping[str, Any]) -> Figure:
    """Accuracies of `slicer_lite.lape.evaluate`, a group of bars for each task, with 95 % intervals.

    Below a task's name is the number of test groups that its intervals stand on, where they are known, or that it has
    no interval. Where a task has no result of a name, there is no bar.
    """
    tasks, names = list(results["tasks"]), list(results["average"])
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        cells = [results["tasks"][task].get(name, _UNKNOWN) for task in tasks]
        height = np.array([100 * r["accuracy"] for r in cells])
        bounds = np.array([[r["low"], r["high"]] for r in cells], dtype=float)  # NaN where there is none
        reach = (100 * bounds - height[:, None]) * (-1, 1)
        place = np.arange(len(tasks)) + (number - (len(names) - 1) / 2) * width
        axes.bar(
            place,
            height,
            width,
            color=COLOURS[number % len(COLOURS)],
            label=name,
            yerr=reach.clip(0).T,
            error_kw={"elinewidth": 1, "capsize": 2},
        )
    axes.set_xticks(range(len(tasks)), [_with_groups(task, results["tasks"][task]) for task in tasks])
    axes.set(ylabel="test accuracy (%)", ylim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    fit = sum(map(len, names)) < 100  # letters, in one line
    figure.legend(frameon=False, loc="outside upper center", ncols=len(names) if fit else 3)
    return figure


def _with_groups(task: str, row: Mapping[str, Any]) -> str:
    result = next(iter(row.values()))
    groups = result.get("groups")
    below = "no interval" if result["low"] is None else f"{groups} groups" if groups else ""
    return f"{task}\n{below}".rstrip()


def label_curves(probes: pd.DataFrame) -> Figure:
    """Accuracy against labels a class: a panel for each task, a line through the means for each feature set.

    Args:
        probes: a row for each probe; columns `task`, `features`, `labels` (a class) and `accuracy` (0 to 1).
    """
    tasks = list(probes["task"].unique())
    figure = Figure(figsize=(5 * len(tasks) + 1, 3.5), layout="constrained")
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(tasks))), tasks, strict=True):
        here = probes[probes["task"] == task]
        for name, colour in zip(here["features"].unique(), COLOURS, strict=False):
            mine = here[here["features"] == name]
            axes.plot(mine["labels"], 100 * mine["accuracy"], ".", color=colour, alpha=0.5)
            means = 100 * mine.groupby("labels")["accuracy"].mean()
            axes.plot(means.index, means, color=colour, label=name)
        labels = sorted(here["labels"].unique())
        axes.set_xscale("log")
        axes.set_xticks(labels, [f"{n:.0f}" for n in labels], minor=False)
        axes.minorticks_off()
        axes.set(title=task, xlabel="labels a class", ylabel="test accuracy (%)")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def learning(results: Mapping[str, Any]) -> Figure:
    """What pre-training brings: accuracy against clips seen, against time, and against labels a class.

    Args:
        results: of `benchmarks/learning.py`: `curve`, rows with `seed`, `clips_seen`, `seconds` and `accuracy` (mean
            over tasks, 0 to 1); `baselines`, accuracies by name; `labels`, rows with `seed`, `features`, `count` and
            `accuracy`. Thin lines and points are seeds, thick lines their means.
    """
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    by_clips, by_time, by_labels = figure.subplots(1, 3, sharey=True)
    curve = pd.DataFrame(results["curve"]).query("clips_seen > 0")  # the axes are logarithmic
    for axes, column, unit in ((by_clips, "clips_seen", 1), (by_time, "seconds", 60)):
        for _, run in curve.groupby("seed"):
            axes.plot(run[column] / unit, 100 * run["accuracy"], color=COLOURS[0], linewidth=0.8, alpha=0.5)
        mean = curve.groupby("clips_seen")[[column, "accuracy"]].mean()
        axes.plot(mean[column] / unit, 100 * mean["accuracy"], ".-", color=COLOURS[0], label="slicer")
        for (name, accuracy), colour in zip(results["baselines"].items(), COLOURS[1:], strict=False):
            axes.axhline(100 * accuracy, color=colour, linestyle="--", linewidth=1, label=name)
        axes.set_xscale("log")
    by_clips.set(title="during training", xlabel="clips seen", ylabel="test accuracy, mean over tasks (%)")
    by_time.set(title="during training", xlabel="minutes of training")
    labels = pd.DataFrame(results["labels"])
    counts = list(labels["count"].unique())
    for name, colour in zip(labels["features"].unique(), COLOURS, strict=False):
        mine = labels[labels["features"] == name]
        by_seed = mine.groupby(["count", "seed"])["accuracy"].mean().unstack().loc[counts]
        by_labels.plot(range(len(counts)), 100 * by_seed, ".", color=colour, alpha=0.5, markersize=4)
        by_labels.plot(range(len(counts)), 100 * by_seed.mean(axis=1), color=colour, label=name)
    by_labels.set_xticks(range(len(counts)), counts)
    by_labels.set(title="with fewer labels", xlabel="labels a class")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    handles = dict(zip(*reversed(by_clips.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles, frameon=False, loc="outside upper center", ncols=len(handles))
    return figure


def differences(table: pd.DataFrame, title: str = "") -> Figure:
    """How far settings lie from a base, in percentage points: a line for each, with its interval and its seeds.

    Drawn orange where the interval leaves out 0; hollow where there is one seed.

    Args:
        table: of `slicer_lite.probe.compare.differences`; the first row is drawn at the top.
    """
    figure = Figure(figsize=(8, 0.8 + 0.36 * len(table)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.8)
    points = 100 * table[["low", "difference", "high"]].to_numpy(dtype=float)
    for place, (low, middle, high) in enumerate(points):
        by_seed = 100 * np.array(table["by_seed"].iloc[place])
        colour = COLOURS[1] if low > 0 or high < 0 else COLOURS[0]
        if len(by_seed) > 1:
            axes.plot(by_seed, np.full(len(by_seed), place + 0.25), "|", color="0.4", markersize=6)
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        fill = colour if len(by_seed) > 1 else "white"
        axes.plot(middle, place, "o", color=colour, markerfacecolor=fill, markersize=7)
    axes.set_yticks(range(len(table)), [str(name) for name in table.index])
    axes.set(
        title=title, xlabel="difference from the base (percentage points)", ylim=(len(table) - 0.5, -0.5)
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure
