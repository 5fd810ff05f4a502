"""The figure of a run: how its losses, its clusters and its embeddings went."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slicer_lite.explore.figures import COLOURS
from slicer_lite.method.method import LOSS
from slicer_lite.training.run_folder import read_metrics, read_panels


def curves(run_dir: str | Path) -> Figure:
    """How a run went: a panel for each that its method names and that was measured."""
    lines = read_metrics(run_dir)
    measured = set().union(*lines)
    panels = [panel for panel in read_panels(run_dir) if not lines or any(n in measured for n in panel.lines)]
    panels = panels or [LOSS]
    figure = Figure(figsize=(1 + 2.8 * len(panels), 2.8), layout="constrained")
    (places,) = figure.subplots(1, len(panels), squeeze=False)
    for axes, panel in zip(places, panels, strict=True):
        for (name, label), colour in zip(panel.lines.items(), COLOURS, strict=False):
            here = [line for line in lines if name in line]
            mark = "-" if 1 < len(here) == len(lines) else ".-"  # points where it was looked at now and then
            x, y = ([line[key] for line in here] for key in ("step", name))
            axes.plot(x, y, mark, color=colour, label=label)
        if len(panel.lines) > 1:
            axes.legend(frameon=False, fontsize=8)
        axes.set(title=panel.title, xlabel="step", ylabel=panel.unit)
        axes.set_xlim(0, max([1, *(line["step"] for line in lines)]))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        if panel.high is None:
            axes.set_ylim(panel.low, None)
        else:
            low = panel.low or 0.0
            axes.set_ylim(low, low + 1.05 * (panel.high - low))
    return figure
