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
CARDS = sorted(ROOT.glob("slicer_lite/**/*.md"))
SOURCES = sorted([*ROOT.glob("slicer_lite/**/*.py"), *ROOT.glob("benchmarks/*.py")])


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


def test_the_lab_books_verdicts_quote_the_result_files():
    def results(name):
        return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())

    def gain(found):
        return "{difference:.1f}{{}} ({low:.1f} to {high:.1f})".format(
            **{k: 100 * v for k, v in found.items()}
        )

    def reached(name):
        seeds = pd.DataFrame([seed["average"] for seed in results(name)["seeds"]])
        return [f"{100 * seeds[features].mean():.1f}" for features in ("slicer", "untrained encoder")]

    light, apart = results("first_light"), results("unheard")
    tiny, small, wide = map(reached, ("learning", "learning_small", "wide"))
    rows = [line for line in markdown(ROOT / "docs" / "experiments.md").splitlines() if line.startswith("| ")]
    answers = {row.split(" | ")[0].strip("| "): row.split(" | ")[1] for row in rows if "](#" in row}
    assert answers["Is anything learnt in 200 steps?"] == (
        f"Yes: {gain(light['gain_over_untrained']).format(' points on test')}, "
        f"{gain(light['gain_inside_the_train_split']).format(' inside')}."
    )
    assert answers["Is it so of sounds that were not heard?"] == (
        f"Yes, with AdamW: {gain(apart['unheard_over_untrained']).format(' points')}; "
        f"of heard sounds {gain(apart['heard_over_untrained']).format('')}."
    )
    assert answers["How far does preset tiny get?"].startswith(f"{tiny[0]} on test; untrained {tiny[1]}.")
    assert answers["How far does preset small get?"].startswith(
        f"{small[0]} on test; untrained {small[1]}. With d = 2,048 {wide[0]}; untrained {wide[1]}."
    )


def anchor(heading):
    """Where a heading is found, as GitHub and the site have it."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_to_a_heading_name_one_that_is_there(path):
    text = re.sub(r"```.*?```", "", markdown(path), flags=re.DOTALL)
    missing = []
    for page, place in re.findall(r"\]\(([^):#\s]*)#([^)\s]+)\)", text):
        target = path.parent / page if page else path
        headings = re.findall(r"^#+ (.*)$", markdown(target), flags=re.MULTILINE)
        if place not in map(anchor, headings):
            missing.append(f"{page}#{place}")
    assert not missing


def docstrings(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [
        node.value.value
        for node in nodes
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_there(name):
    """Whether `slicer_lite.x.y` is a module, or something in one."""
    known, rest = name.split("."), []
    while not is_module(".".join(known)):
        rest.insert(0, known.pop())
    found = importlib.import_module(".".join(known))
    for part in rest:
        found = getattr(found, part, None)
    return found is not None


def not_there(text):
    """Files, modules and names of this project that a text names and that do not exist."""
    paths = re.findall(r"(?<![\w./-])(?:slicer_lite|tests|benchmarks|notebooks|docs)/[\w./*-]*\w", text)
    modules = re.findall(r"(?:from|import|runner|-m) (slicer_lite(?:\.\w+)+)", text)
    imported = re.findall(r"from (slicer_lite[\w.]*) import (\w+)", text)
    names = re.findall(r"(?<![\w./-])slicer_lite(?:\.[A-Za-z_]\w*)+", text)
    return [
        *(path for path in paths if not any(ROOT.glob(path))),
        *(module for module in modules if not is_module(module)),
        *(name for name in [*names, *map(".".join, imported)] if not is_there(name)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "`slicer_lite/muon.py`",
        "`tests/test_golden.py`",
        "`slicer_lite.weights`",
        "from slicer_lite.hub import HubModel",
        "from slicer_lite.share.hub import Hub",
        "python -m heareval.embeddings.runner slicer_lite.hear",  # an attribute, but no module
    ],
)
def test_a_name_that_is_not_there_is_found(text):
    assert not_there(text)


@pytest.mark.parametrize("path", PAGES + CARDS, ids=lambda path: path.name)
def test_pages_name_files_and_modules_that_are_there(path):
    text = markdown(path)
    if path.name == "README.md":  # tests/test_readme.py holds 'The house' to the folders
        text = re.sub(r"## The house.*?(?=\n## )", "", text, flags=re.DOTALL)
    assert not not_there(text)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_name_files_and_modules_that_are_there(path):
    assert not not_there("\n".join(docstrings(path)))


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
    assert not [text for text in docstrings(path) if re.search(r"\[(P|R|B|C|M|ours)\](\s?\[|\()", text)]


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
