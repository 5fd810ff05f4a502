"""A map of sounds: hover to see and hear a clip, draw around some to count what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
import traitlets
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from slicer_lite.audio.store import Clips, load_clips
from slicer_lite.config import SAMPLE_RATE
from slicer_lite.explore import clusters, figures
from slicer_lite.method.logmel import LogMel
from slicer_lite.widgets.common import Widget, front_end, pixels, wav

_LONGEST = 10 * SAMPLE_RATE  # samples of a clip that are shown and played
_DYNAMIC = 12.0  # nats (52 dB) below a clip's loudest cell that its picture still shows
_RAMP = 16  # colours of the scale for numbers; the front end counts on it
_LISTED = 5  # most frequent labels in the table of a selection


class SoundMap(Widget):
    """Clips as points on a map.

    Point at one (or go there with the arrow keys) to see and hear it; draw a line around some to count their labels
    and clusters; choose what the colours mean; step through several maps of the same clips.

    Args:
        embeddings: `(N, 2)` points, or `(N, D)` embeddings, of which UMAP makes points (some 10 s for 3,000 clips).
            A mapping from names to such arrays, such as `{"untrained": …, "trained": …}`, gives several maps to
            step through; of embeddings, each map then starts from the one that follows it, so that they can be
            compared.
        clips: the N clips, in the same order; anything that `load_clips` takes.
        assignment: `(N, M)` soft assignments, or a mapping of them with the names of `embeddings`: adds the
            colours 'cluster' (first choice) and 'confidence' (largest share), with 'of the network' behind it where
            a task or one of `colours` has that name.
        colours: further things to colour by, each `(N,)`: floats get a colour scale, others a colour for each value;
            `''`, None and NaN among labels are 'no label'. The labels of each of the clips' tasks are always there.
        colour: what to colour by at first; the first of all by default.
        seed: of UMAP.

    Raises:
        ValueError: numbers of clips that differ, values that are not finite, an unknown name, or more than
            65,535 labels.
    """

    _esm = front_end("sound_map.js")

    names = traitlets.List(traitlets.Unicode(), help="of the maps").tag(sync=True)
    colour = traitlets.Unicode(help="name of the column that gives the colours").tag(sync=True)
    shown = traitlets.Int(help="number of the map").tag(sync=True)
    columns: traitlets.List[Any] = traitlets.List(help="what to colour by").tag(sync=True)
    summary: traitlets.List[Any] = traitlets.List(help="what is selected").tag(sync=True)
    _points = traitlets.List(traitlets.Bytes()).tag(sync=True)
    _selection = traitlets.Bytes().tag(sync=True)
    _palette = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _ramp = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        embeddings: np.ndarray | Mapping[str, np.ndarray],
        clips: Clips | Sequence[np.ndarray],
        assignment: np.ndarray | Mapping[str, np.ndarray] | None = None,
        colours: Mapping[str, np.ndarray | Sequence[Any]] | None = None,
        colour: str | None = None,
        seed: int = 0,
    ):
        self._clips = load_clips(clips)
        by_name = dict(embeddings) if isinstance(embeddings, Mapping) else {"map": embeddings}
        self.points = _maps({name: self._checked(name, e) for name, e in by_name.items()}, seed)
        self._columns: dict[str, _Column] = {}
        for name, values in (colours or {}).items():
            self._columns[name] = _column([self._checked(name, values, dimensions=1)])
        for task in self._clips.tasks:
            if task not in self._columns:
                self._columns[task] = _column([self._clips.labels(task)])
        if assignment is not None:
            self._add_assignment(assignment, list(by_name))
        if not self._columns:
            self._columns["clip"] = _column([np.full(len(self._clips), "")])
        self._logmel = LogMel()
        ramp = matplotlib.colormaps["viridis"](np.linspace(0.1, 0.95, _RAMP))
        super().__init__(
            names=list(by_name),
            colour=next(iter(self._columns)) if colour is None else colour,
            shown=len(by_name) - 1,
            columns=[{"name": name, **column.packed()} for name, column in self._columns.items()],
            _points=[_unit_square(points).tobytes() for points in self.points.values()],
            _palette=list(figures.COLOURS),
            _ramp=[to_hex(colour) for colour in ramp],
        )

    @traitlets.validate("colour", "shown")
    def _existing(self, proposal: Any) -> Any:
        wanted = proposal["value"]
        if proposal["trait"].name == "colour" and wanted not in self._columns:
            raise ValueError(f"There is no colour {wanted!r}: there are {', '.join(self._columns)}.")
        if proposal["trait"].name == "shown" and not 0 <= wanted < len(self.points):
            raise ValueError(f"There is no map {wanted}: they are numbered 0 to {len(self.points) - 1}.")
        return wanted

    @property
    def selected(self) -> np.ndarray:
        """Numbers of the clips that are selected, `(n,)`; none at first."""
        return np.frombuffer(self._selection, "<u4").astype(int)

    def select(self, clips: Sequence[int] | np.ndarray) -> None:
        """Select clips by their numbers, as drawing a line around them does."""
        chosen = np.unique(np.asarray(clips, dtype=int))
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < len(self._clips):
            raise ValueError(
                f"Clips are numbered 0 to {len(self._clips) - 1}, got {chosen[0]} to {chosen[-1]}."
            )
        with self.hold_sync():  # the page gets the selection and its summary together
            self._selection = chosen.astype("<u4").tobytes()

    @traitlets.observe("_selection", "shown")
    def _summarise(self, _: Any) -> None:
        self.summary = [
            {
                "name": name,
                "entries": [[label, int(count)] for label, count in counts.head(_LISTED).items()],
                "others": len(counts.iloc[_LISTED:]),
            }
            for name, counts in self._counts(self.selected).items()
        ]

    def counts(self) -> pd.DataFrame:
        """What is selected: columns `of` (a task, or cluster), `label`, `clips`, the most frequent first."""
        rows = [
            {"of": name, "label": label, "clips": count}
            for name, by_label in self._counts(self.selected).items()
            for label, count in by_label.items()
        ]
        return pd.DataFrame(rows, columns=["of", "label", "clips"])

    def receive(self, message: dict[str, Any], buffers: list[Any]) -> None:
        if message["kind"] == "hear":
            clip = int(message["clip"])
            waveform = self._clips[clip][:_LONGEST]
            longer = np.pad(waveform, (0, max(0, SAMPLE_RATE // 10 - len(waveform))))
            lms = self._logmel(torch.from_numpy(longer)[None])[0, 0].numpy()  # (64, T)
            picture = pixels(lms, lms.max() - _DYNAMIC, lms.max())
            answer = {"kind": "clip", "clip": clip, "size": lms.shape[::-1]}
            self.send(answer, [picture, wav(waveform)])
        elif message["kind"] == "select":
            self.select(np.frombuffer(buffers[0], "<u4"))

    def picture(self) -> Figure:
        """The first and the last map (or the only one), in the colours that are chosen now."""
        names = list(dict.fromkeys((self.names[0], self.names[-1])))
        figure = Figure(figsize=(6 * len(names), 4.6), layout="constrained")
        for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
            column, title = self._columns[self.colour], f"{name}: {self.colour}"
            values = column.on_map(self.names.index(name))
            if column.labels is None:
                figures.show_numbers(axes, self.points[name], values, title)
            else:
                groups = np.array(["", *column.labels])[values]
                figures.show_groups(axes, self.points[name], groups, title, column.labels)
        return figure

    def _checked(self, name: str, values: Any, dimensions: int = 2) -> np.ndarray:
        array = np.asarray(values)
        if array.ndim != dimensions or len(array) != len(self._clips) or 0 in array.shape:
            wanted = f"({len(self._clips)}, …)" if dimensions == 2 else f"({len(self._clips)},)"
            raise ValueError(f"{name!r} must be {wanted}, one row for each clip, got {array.shape}.")
        if dimensions == 2 and array.shape[1] < 2:
            raise ValueError(f"{name!r} has one column: a map needs points with at least two columns.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name!r} holds values that are not finite (NaN or infinity).")
        return array

    def _add_assignment(self, assignment: np.ndarray | Mapping[str, np.ndarray], names: list[str]) -> None:
        by_name = dict(assignment) if isinstance(assignment, Mapping) else {"assignment": assignment}
        if isinstance(assignment, Mapping) and list(by_name) != names:
            raise ValueError(f"Assignments are for {list(by_name)}, but maps are for {names}.")
        all_ = [self._checked(name, values) for name, values in by_name.items()]
        for name, of in (("cluster", np.argmax), ("confidence", np.max)):
            free = (
                name if name not in self._columns else f"{name} of the network"
            )  # a task may be called so, too
            self._columns[free] = _column([of(values, axis=1) for values in all_])

    def _counts(self, chosen: np.ndarray) -> dict[str, pd.Series]:
        """How many of the chosen clips have which label, for each column of labels of which some have one."""
        counts = {}
        for name, column in self._columns.items():
            if column.labels is not None:
                codes = column.on_map(self.shown)[chosen]
                many = pd.Series(np.bincount(codes, minlength=len(column.labels) + 1)[1:], column.labels)
                counts[name] = many[many > 0].sort_values(ascending=False, kind="stable")
        return {name: by_label for name, by_label in counts.items() if len(by_label)}


def _maps(arrays: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Points as they are; embeddings by UMAP, each map from the second last on starting from its successor's."""
    points: dict[str, np.ndarray] = {}
    next_map = None
    for name, array in reversed(list(arrays.items())):
        if array.shape[1] > 2:
            next_map = clusters.umap_map(array, seed, start=next_map)
            points[name] = next_map
        else:
            points[name] = array.astype(np.float32)
    return {name: points[name] for name in arrays}


def _unit_square(points: np.ndarray) -> np.ndarray:
    """Moved and scaled, the same in both directions, to fill [0, 1] x [0, 1]: `(N, 2)` -> `(N, 2)`."""
    low, high = points.min(0), points.max(0)
    centred = points - (low + high) / 2
    return (centred / max(float((high - low).max()), 1e-9) + 0.5).astype("<f4")


@dataclass
class _Column:
    """What clips can be coloured by: numbers, or labels as codes: 0 is 'no label', k the k-th of `labels`."""

    values: list[np.ndarray]  # (N,) each: one for all maps, or one for each
    labels: list[str] | None  # None: numbers

    def on_map(self, number: int) -> np.ndarray:
        return self.values[min(number, len(self.values) - 1)]

    def packed(self) -> dict[str, Any]:
        """As the front end takes it: 16 bits for each clip. Of numbers, 0 is the lowest and 65535 the highest."""
        if self.labels is not None:
            return {"labels": self.labels, "codes": [codes.astype("<u2").tobytes() for codes in self.values]}
        low, high = (float(f([f(v) for v in self.values])) for f in (np.min, np.max))
        steps = [((v - low) / max(high - low, 1e-9) * 65535).round() for v in self.values]
        return {"low": low, "high": high, "codes": [s.astype("<u2").tobytes() for s in steps]}


def _column(values: list[np.ndarray]) -> _Column:
    """Floats are numbers, all else is labels, of which 16 bits tell 65,535 apart."""
    if values[0].dtype.kind == "f":
        return _Column(values, None)
    values = [
        np.where(pd.isna(v), "", v.astype(object)).astype(str) if v.dtype.kind == "O" else v for v in values
    ]
    distinct, place = np.unique(np.concatenate(values), return_inverse=True)
    text = [str(label) for label in distinct]
    labels = [label for label in text if label]
    if len(labels) > 65_535:
        raise ValueError(f"A map can show 65,535 different labels, got {len(labels):,}: give them as floats.")
    code = {"": 0} | {label: number + 1 for number, label in enumerate(labels)}
    codes = np.array([code[label] for label in text])[place]  # (maps * N,)
    return _Column(np.split(codes, len(values)), labels)
