"""The dashboard: watch a pre-training run, stop it, and go on where it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from IPython.display import display
from matplotlib.figure import Figure

from slicer_lite.audio.store import Clips
from slicer_lite.config import Config
from slicer_lite.method.registry import MakesEncoder, MakesMethod, Panel, panels_of
from slicer_lite.share.weights import Pretrained
from slicer_lite.training import health
from slicer_lite.training.curves import curves
from slicer_lite.training.health import SETTLED
from slicer_lite.training.pretrain import pretrain
from slicer_lite.training.run_folder import METRICS, read_metrics
from slicer_lite.widgets.common import Widget, front_end

_EVERY = 0.1  # seconds between messages to the page: more would take time from the training


class Dashboard(Widget):
    """Curves of a run while it trains, a Stop button, and its health in words.

        trained = Dashboard().pretrain(config, clips, "runs/mine", steps=100)

    What the method names (losses, use and entropy of clusters, rank of the embeddings) is drawn as it comes in. After
    Stop the run saves, and the call returns; the same call goes on where it was.

    Attributes:
        state: `ready`, `running`, `stopped`, `finished` or `failed`.
        status: the same as a sentence; while running with step, speed and time left.
        health: what `slicer_lite.training.health.diagnose` says of the last measurement, that nothing looks wrong, or
            that it is too early to judge.
        verdict: `ill`, `well` or `early`, accordingly.
    """

    _esm = front_end("dashboard.js")

    state = traitlets.Unicode("ready").tag(sync=True)
    status = traitlets.Unicode("Not begun.").tag(sync=True)
    health = traitlets.List(traitlets.Unicode()).tag(sync=True)
    verdict = traitlets.Enum(("early", "well", "ill"), "early", help="what `health` comes to").tag(sync=True)
    panels = traitlets.List(traitlets.Dict(), help="what is drawn, of `Panel`").tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    steps = traitlets.Int(1).tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self._stop = threading.Event()
        self._lines: list[dict[str, float]] = []  # metrics drawn so far, one dict a step
        self._new: list[dict[str, float]] = []  # those that have not been sent yet
        self._sent = 0.0
        self._run = Path()

    def pretrain(
        self,
        config: Config,
        clips: Clips | str | Path | Sequence[np.ndarray],
        run_dir: str | Path,
        steps: int | None = None,
        device: str = "auto",
        method: MakesMethod | None = None,
        encoder: MakesEncoder | None = None,
    ) -> Pretrained:
        """`slicer_lite.pretrain` shown in this dashboard: its arguments of these names, its result and its errors."""
        config = config if steps is None else config.replace(steps=steps)
        self._begin(config, Path(run_dir).expanduser(), panels_of(method or config.method))
        shown = display(self, display_id=True)
        try:
            trained = pretrain(
                config,
                clips,
                run_dir,
                device=device,
                progress=False,
                on_step=lambda metrics: self._add(metrics, config),
                stop=self._stop,
                method=method,
                encoder=encoder,
            )
            if trained.step == config.steps:
                self._end("finished", f"Finished: {trained.step} steps are done.")
            else:
                done = f"Stopped after step {trained.step} of {config.steps}, and saved."
                self._end("stopped", f"{done} Run the cell again to go on.")
            return trained
        except KeyboardInterrupt as interrupt:
            self._end("stopped", f"Interrupted: {interrupt or 'at once'}. Run the cell again to go on.")
            raise
        except Exception as error:
            self._end("failed", str(error))
            raise
        finally:
            if shown is not None:  # None outside notebooks
                shown.update(self)  # so that a saved notebook has the picture of the end

    def receive(self, message: dict[str, Any], buffers: list[Any]) -> None:
        """`stop`: finish the step and save. `hello`: a page has been opened and needs all points."""
        if message["type"] == "stop":
            self._stop.set()
        elif message["type"] == "hello":
            self.send({"type": "all", "lines": self._lines})

    def picture(self) -> Figure:
        """The run's curves, under its health in words."""
        if not self._lines:
            figure = Figure(figsize=(6, 0.5))
            figure.text(0.01, 0.4, self.status)
            return figure
        figure = curves(self._run)
        figure.suptitle("\n".join([self.status, *self.health]), x=0.01, ha="left", fontsize=9, wrap=True)
        return figure

    def _begin(self, config: Config, run: Path, panels: Sequence[Panel]) -> None:
        self._run, self.panels = run, [panel._asdict() for panel in panels]
        self._stop.clear()
        before = read_metrics(run) if (run / METRICS).exists() else []
        self._lines, self._new = [self._drawn(line) for line in before], []
        self.verdict, self.health = "early", []
        for line in [line for line in before if "rank" in line][-1:]:
            self._judge(line)
        self.steps, self.step = config.steps, len(self._lines)
        self.state, self.status = "running", "Preparing …"
        self.send({"type": "all", "lines": self._lines})

    def _add(self, metrics: Mapping[str, float], config: Config) -> None:
        if self._lines and self._lines[-1]["step"] >= metrics["step"]:
            # The run was killed: what it did after its last checkpoint is done again.
            self._lines = [line for line in self._lines if line["step"] < metrics["step"]]
            self.send({"type": "all", "lines": self._lines})
        self._lines.append(self._drawn(metrics))
        self._new.append(self._lines[-1])
        if "rank" in metrics:
            self._judge(metrics)
        now = time.monotonic()
        if now - self._sent >= _EVERY:
            self._sent = now
            self._flush()
            rate = metrics["clips_per_second"]
            left = round((config.steps - metrics["step"]) * config.batch_size / rate)  # seconds
            pace = f"{rate:.0f} clips/s · {left // 60}:{left % 60:02d} left"
            self.status = f"step {metrics['step']} of {config.steps} · {pace}"

    def _judge(self, metrics: Mapping[str, float]) -> None:
        early = metrics["step"] < SETTLED
        wrong = [] if early else health.diagnose(metrics)
        self.verdict = "early" if early else "ill" if wrong else "well"
        self.health = wrong or [_nothing_wrong(metrics, early)]

    def _end(self, state: str, status: str) -> None:
        self._flush()
        self.state, self.status = state, status

    def _drawn(self, metrics: Mapping[str, float]) -> dict[str, float]:
        names = ["step", *(name for panel in self.panels for name in panel["lines"])]
        return {name: metrics[name] for name in names if name in metrics}

    def _flush(self) -> None:
        if self._new:
            self.step = int(self._new[-1]["step"])
            self.send({"type": "new", "lines": self._new})
            self._new = []


def _nothing_wrong(metrics: Mapping[str, float], early: bool) -> str:
    verdict = "too early to judge" if early else "nothing looks wrong"
    used = (
        f"{metrics['clusters_used']:.0%} of the clusters are in use, " if "clusters_used" in metrics else ""
    )
    return (
        f"Step {metrics['step']}: {verdict}; {used}the embeddings fill about {metrics['rank']:.0f} of "
        f"{metrics['largest_rank']:.0f} dimensions."
    )
