"""The notebooks as a reader meets them: Run All in JupyterLab, with every widget drawn."""

from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
WALKED = ("01", "03")  # rich in widgets, and quick; the others are walked by `make test-all`


def widgets_in(path):
    """How many cells end in a widget: their static picture stands beside their plain text."""
    outputs = [o for c in nbformat.read(path, 4).cells if c.cell_type == "code" for o in c.outputs]
    texts = [o.get("data", {}).get("text/plain", "") for o in outputs]
    return sum(text in ("<Audition>", "<SoundMap>", "<Dashboard>", "<Recorder>") for text in texts)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem[:2] in WALKED else pytest.mark.long)
        for path in NOTEBOOKS
    ],
)
def test_run_all(path, open_notebook):
    notebook = open_notebook(path)
    notebook.run_all(900)
    widgets = notebook.page.locator(".jp-OutputArea .slicer-widget")
    for number in range(widgets_in(path)):
        widgets.nth(number).scroll_into_view_if_needed()
        widgets.nth(number).wait_for()
        notebook.screenshots(f"{path.stem}-{number}", widgets.nth(number))
