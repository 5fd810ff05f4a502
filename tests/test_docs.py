"""Pages that can be browsed: links that lead somewhere, figures that were measured."""

import ast
import dataclasses
import html
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

import slicer_lite as sl

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def markdown(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_links_inside_the_project_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", markdown(path), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [t for t in targets if "://" not in t and not (path.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_solution_and_what_it_gives_are_hidden_until_they_are_asked_for(path):
    cells = json.loads(path.read_text())["cells"]
    solutions = [cell for cell in cells if "solution" in cell["metadata"].get("tags", [])]
    assert solutions
    for cell in solutions:
        assert cell["metadata"]["jupyter"] == {"source_hidden": True, "outputs_hidden": True}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_committed_executed_and_their_pictures_described(path):
    assert path.stat().st_size <= 500_000
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert "widgets" not in notebook["metadata"]
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["execution_count"], f"{cell['id']} has not been executed"
        for output in cell["outputs"]:
            assert output.get("name") != "stderr", f"{cell['id']}: {output['text']}"
            if "image/png" in output.get("data", {}):
                assert cell["metadata"].get("alt"), (
                    f"{cell['id']} shows a picture: say in its metadata, as alt, what"
                )


def test_the_export_page_quotes_its_result_file():
    found = json.loads((ROOT / "benchmarks" / "results" / "export.json").read_text())
    page = " ".join((ROOT / "docs" / "export.md").read_text().split())
    average = {name: f"{100 * value:.1f} %" for name, value in found["average"].items()}
    moved = [
        100 * (task["onnx, int8"]["accuracy"] - task["PyTorch"]["accuracy"])
        for task in found["tasks"].values()
    ]
    off = found["largest_difference"]
    for text in (
        f"{off['onnx']:.1e} in single precision and {off['onnx, int8']:.3f} in 8 bits",
        f"largest number is {found['largest_embedding']:.1f}",
        f"averages {average['PyTorch']} with PyTorch, {average['onnx']} with ONNX and {average['onnx, int8']} in 8",
        f"between {min(moved):.1f} and +{max(moved):.1f} points",
        *(
            " | ".join([f"| {preset}", *(f"{size / 1e6:.1f} MB" for size in sizes.values())]) + " |"
            for preset, sizes in found["bytes"].items()
        ),
    ):
        assert text in page


@pytest.mark.parametrize("path", sorted(ROOT.glob("slicer_lite/**/*.py")), ids=lambda path: path.name)
def test_source_marks_in_docstrings_are_no_links(path):
    """[P], [R] with a comma: Markdown takes two brackets side by side for a link, and the site stops at it."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    texts = [
        node.value.value
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    assert not [text for text in texts if re.search(r"\[(P|R|B|C|M|ours)\](\s?\[|\()", str(text))]


@pytest.mark.slow
def test_the_site_builds_and_fetches_nothing():
    """Only where the extra `docs` is installed (`make docs`), since nothing else needs it."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: make docs")
    done = subprocess.run(
        [sys.executable, "docs/site.py"], cwd=ROOT, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every link good" in done.stdout
    page = (ROOT / "build" / "site" / "reference" / "config.html").read_text(encoding="utf-8")
    for field in dataclasses.fields(sl.Config):
        for part in ("what", "unit", "source"):
            assert f"<td>{html.escape(field.metadata[part], quote=False)}</td>" in page


def cell_of(notebook, identity):
    cells = json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))["cells"]
    return "".join(next(cell["source"] for cell in cells if cell.get("id") == identity))


def own_sounds(folder, count):
    for number in range(count):
        soundfile.write(folder / f"{number}.wav", np.sin((number + 1) * np.arange(16_000.0)), 16_000)


def given_to_notebook_06(mine, run):
    """The names that the cells on one's own folder use, as those before leave them."""
    encoder = sl.Encoder(channels=4, dim=8)
    names = {"os": os, "np": np, "pd": pd, "Path": Path, "sl": sl, "MINE": mine, "PRESET": "tiny", "run": run}
    exec(cell_of("06_your_own_sounds.ipynb", "06-folder"), names)
    names["features"] = {"your own network": sl.embed(encoder, names["mine"])}
    return names


@pytest.mark.parametrize("table", [None, "manifest.csv", "list.csv"])
def test_notebook_06_takes_along_a_folder_whose_path_has_two_dots(tmp_path, monkeypatch, table):
    for folder in ("data", "work"):
        (tmp_path / folder).mkdir()
    own_sounds(tmp_path / "data", 4)
    if table:
        (tmp_path / "data" / table).write_text("path\n" + "".join(f"{number}.wav\n" for number in range(4)))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sl, "load", lambda _: SimpleNamespace(step=3))
    names = given_to_notebook_06("../data/list.csv" if table == "list.csv" else "../data", "run")
    exec(cell_of("06_your_own_sounds.ipynb", "06-export"), names)
    assert names["back"]["paths"].tolist() == [f"{number}.wav" for number in range(4)]


@pytest.mark.parametrize("count", [1, 3])
def test_notebook_06_says_that_a_few_clips_are_too_few(tmp_path, count):
    own_sounds(tmp_path, count)
    with pytest.raises(ValueError, match=f"^{count} clips are too few to train on: this notebook needs 4"):
        given_to_notebook_06(str(tmp_path), "run")
