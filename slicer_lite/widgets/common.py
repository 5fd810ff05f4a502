"""What all widgets share: a base class, and sounds and pictures as the bytes that a browser takes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import matplotlib
import numpy as np
import soundfile
import traitlets
from matplotlib.figure import Figure

from slicer_lite.config import SAMPLE_RATE


def front_end(name: str) -> str:
    """The JavaScript of a widget: `common.js`, then its own file. A browser gets them as one module."""
    folder = Path(__file__).parent
    return "\n".join((folder / file).read_text(encoding="utf-8") for file in ("common.js", name))


class Widget(anywidget.AnyWidget):
    """A widget that shows its errors, and that leaves a picture beside itself in a saved notebook.

    Subclasses set `_esm = front_end("their.js")` and define `receive` and `picture`.
    """

    _css = Path(__file__).with_name("widgets.css")
    error = traitlets.Unicode("", help="what went wrong last; shown in the widget").tag(sync=True)

    def __init__(self, **traits: Any):
        super().__init__(**traits)
        self.on_msg(self._guarded)
        # ipykernel 7.4 hands a page's messages to the thread from which the widget last sent one. If that is the
        # main thread, a running cell keeps it busy, and Stop is heard only when the cell has ended. So they stay
        # with the thread that JupyterLab addressed.
        self.comm._reply_subshell_for = lambda data, subshell: subshell

    def receive(self, message: dict[str, Any], buffers: list[Any]) -> None:
        """Answer a message of the front end. Whatever is raised here is shown in the widget."""
        raise NotImplementedError

    def picture(self) -> Figure:
        """What the widget shows, as a figure that needs no kernel."""
        raise NotImplementedError

    def attempt(self, action: Callable[[], None]) -> None:
        """Do something; if it raises an exception, show that in the widget."""
        self.error = ""
        try:
            action()
        except Exception as error:  # a widget's callbacks have nobody else who would show it
            self.error = f"{type(error).__name__}: {error}"

    def _guarded(self, _: Any, message: dict[str, Any], buffers: list[Any]) -> None:
        self.attempt(lambda: self.receive(message, buffers))

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_() or ({}, {})
        content = io.BytesIO()
        with matplotlib.rc_context({"text.parse_math": False}):  # names of files and labels may hold a $
            self.picture().savefig(content, format="png", dpi=matplotlib.rcParams["figure.dpi"])
        # Shown where widgets are not understood, and by JupyterLab once the live widget is taken out of a saved
        # notebook, as docs/execute_notebooks.py does.
        return {
            **data,
            "text/plain": f"<{type(self).__name__}>",
            "image/png": content.getvalue(),
        }, metadata


def wav(waveform: np.ndarray) -> bytes:
    """`(S,)` floats at 16 kHz as a WAV file of 16-bit samples; beyond [-1, 1] they are clipped."""
    content = io.BytesIO()
    soundfile.write(content, waveform, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return content.getvalue()


def pixels(lms: np.ndarray, low: float, high: float) -> bytes:
    """A log-mel `(64, T)` as RGBA bytes, the highest band in the first row, `low` dark and `high` bright."""
    share = np.clip((np.asarray(lms)[::-1] - low) / max(high - low, 1e-9), 0, 1)
    return matplotlib.colormaps["magma"](share, bytes=True).tobytes()
