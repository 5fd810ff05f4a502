"""Widgets for notebooks: sounds to see, hear and compare.

Their Python half computes, with the package's own functions; their front end, in the JavaScript and CSS files
beside it, only draws and plays. All of them work from the keyboard, follow JupyterLab's light and dark theme, show
errors where they happen, and leave a static picture beside them in a saved notebook, for pages without widgets.
"""

try:
    import anywidget as _anywidget  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"The widgets need {error.name}: pip install 'slicer-lite[notebooks]'", name=error.name
    ) from None

from slicer_lite.widgets.audition import Audition
from slicer_lite.widgets.dashboard import Dashboard
from slicer_lite.widgets.recorder import Heard, Recorder
from slicer_lite.widgets.sound_map import SoundMap

__all__ = ["Audition", "Dashboard", "Heard", "Recorder", "SoundMap"]
