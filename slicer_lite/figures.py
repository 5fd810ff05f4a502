"""Figures that notebooks, the command line and the documentation share.

They are made without pyplot, whose global state widgets and threads disturb.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicer_lite.config import F_MAX, F_MIN, HOP, SAMPLE_RATE

# Colours that stay apart for colour-blind readers (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


def curves(run_dir: str | Path) -> Figure:
    """How a run went: losses, use of the clusters, rank of the embeddings."""
    lines = [json.loads(line) for line in (Path(run_dir) / "metrics.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(11, 3), layout="constrained")
    losses, clusters, rank = figure.subplots(1, 3)
    step = [line["step"] for line in lines]
    for name, colour in zip(("instance", "cluster", "entropy"), COLOURS, strict=False):
        losses.plot(step, [line[name] for line in lines], color=colour, label=name, linewidth=1)
    losses.set(title="losses", ylabel="loss (nats)")
    watched = [line for line in lines if "rank" in line]
    step = [line["step"] for line in watched]
    for name, colour in zip(("clusters_used", "cluster_entropy", "confidence"), COLOURS, strict=False):
        label = name.replace("_", " ")
        clusters.plot(step, [line[name] for line in watched], ".-", color=colour, label=label)
    clusters.set(title="clusters", ylabel="share", ylim=(0, 1.05))
    rank.plot(step, [line["rank"] for line in watched], ".-", color=COLOURS[0], label="RankMe")
    rank.set(title="embeddings", ylabel="effective dimensions", ylim=(0, None))
    for axes in (losses, clusters, rank):
        axes.set_xlabel("step")
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


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
