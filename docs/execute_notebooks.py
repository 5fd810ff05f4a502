"""Execute notebooks and save them as they are committed: with outputs, small, and free of what changes by itself.

    python docs/execute_notebooks.py [notebooks/02_pretraining.ipynb …]      (all of them by default)

Figures get a palette of 255 colours, which halves their size without a visible difference; timings, widget state
and the names of this machine are left out. A notebook that fails is not saved.
"""

import base64
import io
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = ("alt", "jupyter", "tags")  # of a cell's metadata: what its picture shows, hidden sources, solutions
MOST_BYTES = 500_000


def main(paths: list[Path]) -> None:
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        begun = time.monotonic()
        where = {"metadata": {"path": str(path.parent)}}
        NotebookClient(notebook, timeout=600, record_timing=False, resources=where).execute()
        notebook.metadata.clear()
        notebook.metadata.update(METADATA)
        for cell in notebook.cells:
            cell.metadata = {name: value for name, value in cell.metadata.items() if name in KEPT}
            for output in cell.get("outputs", []):
                shrink(output)
        nbformat.validate(notebook)
        text = nbformat.writes(notebook)
        if len(text) > MOST_BYTES:
            sys.exit(
                f"{path.name} has {len(text):,} bytes, more than {MOST_BYTES:,}: show or play less in it."
            )
        path.write_text(text + "\n", encoding="utf-8")
        print(f"{path.name}: {time.monotonic() - begun:.0f} s, {len(text) / 1000:.0f} kB")


def shrink(output: nbformat.NotebookNode) -> None:
    # A widget without a kernel is an error message; the static picture beside it is shown instead.
    output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    if "image/png" in output.get("data", {}):
        picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGB")
        small = picture.quantize(255, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        content = io.BytesIO()
        small.save(content, "PNG", optimize=True)
        output.data["image/png"] = base64.b64encode(content.getvalue()).decode() + "\n"


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb")))
