"""The rooms of the package stand on each other: no import goes up or round, and README and its picture say so."""

import graphlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "slicer_lite"


@pytest.fixture
def house(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import house

    return house


@pytest.fixture
def rooms(house):
    return house.rooms((ROOT / "README.md").read_text(encoding="utf-8"))


def test_readme_has_a_line_for_each_room(rooms):
    there = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith(("_", "."))}
    assert set(rooms) == there
    assert all(0 < len(line) <= 75 for line in rooms.values())  # it must fit into the picture


def test_what_readme_names_is_there():
    section = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("## The house")[2].partition("\n## ")[0]
    )
    table = [line for line in section.splitlines() if line.startswith("| ")]
    named = {name: row for row in table for name in re.findall(r"`([\w/]+(?:/|\.py))`", row)}
    assert {"method/losses.py", "training/loop.py", "training/checkpoint.py"} <= set(named)
    assert not [
        name for name in named if not (PACKAGE / name).exists() and not (PACKAGE / "method" / name).exists()
    ]
    for file, name in {"method/losses.py": "info_nce", "training/checkpoint.py": "load_checkpoint"}.items():
        assert f"def {name}(" in (PACKAGE / file).read_text(encoding="utf-8")


def test_no_import_goes_up(house, rooms):
    assert house.upward(house.imports(PACKAGE), list(rooms)) == house.EXCEPTIONS


def test_no_imports_go_round(house):
    graph = house.imports(PACKAGE)
    for one, other in house.EXCEPTIONS:
        graph[one].remove(other)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_picture_is_that_of_the_code(house):
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), "Draw it anew: python docs/house.py"


def test_the_method_can_be_read_in_one_sitting():
    """SLICER's own files: without the one-file reference, the rewrites for speed, and the methods to compare with."""
    beside = {"plain.py", "fast.py", "delores.py", "byol_a.py"}
    files = [path for path in (PACKAGE / "method").glob("*.py") if path.name not in beside]
    assert len(files) > 5
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) < 1000


@pytest.mark.parametrize(
    ("module", "line", "imported"),
    [
        ("low/a.py", "from small.high import b", "high.b"),
        ("low/a.py", "def f():\n    from small.high.b import name", "high.b"),
        ("low/a.py", "from ..high import b", "high.b"),
        ("low/a.py", "from ..high.b import name", "high.b"),
        ("low/a.py", "import small.high.b", "high.b"),
        ("low/a.py", "class A:\n    import small.high.b as c", "high.b"),
        ("low/a.py", "from small import high", "high"),
        ("low/__init__.py", "from ..high import name", "high"),
        ("low/__init__.py", "from .. import high", "high"),
        ("ground.py", "from .high import b", "high.b"),
        ("ground.py", "if True:\n    from small.__main__ import main", "__main__"),
    ],
)
def test_imports_that_go_up_are_found_wherever_they_stand(house, tmp_path, module, line, imported):
    package = tmp_path / "small"
    for path in ("__init__.py", "__main__.py", "ground.py", "low/__init__.py", "low/a.py", "high/b.py"):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text("import sys\nfrom small import __version__\n")
    (package / "high" / "__init__.py").touch()
    (package / "high" / "c.py").write_text("from ..low import a\nfrom . import b\n")
    order = ["ground", "low", "high", "cli"]
    assert house.imports(package)["high.c"] == {"low.a", "high.b"}
    assert house.upward(house.imports(package), order) == set()
    (package / module).write_text(line)
    importer = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert house.upward(house.imports(package), order) == {(importer, imported)}


# Public names in an order, and which libraries must not be loaded when they have been asked for.
PAID = [
    ([], "torch torchaudio numpy pandas sklearn matplotlib scipy joblib tqdm tyro"),
    (["Config", "preset"], "torch torchaudio pandas sklearn matplotlib scipy joblib tqdm tyro"),
    (["LogMel", "KMix", "RandomResizeCrop", "losses"], "pandas sklearn matplotlib scipy joblib soundfile"),
    (["Encoder", "SLICER"], "pandas sklearn matplotlib scipy joblib soundfile"),
    (["load", "load_encoder"], "pandas sklearn matplotlib scipy joblib soundfile"),
    (["load_clips", "Clips", "embed"], "sklearn matplotlib scipy joblib soundfile pooch"),
    (["pretrain"], "sklearn scipy joblib soundfile pooch platformdirs psutil tyro tensorboard IPython umap"),
]


def test_public_names_bring_no_more_than_they_need():
    code = f"""
import json, sys
import slicer_lite
there = []
for names, libraries in {PAID!r}:
    for name in names:
        getattr(slicer_lite, name)
    there.append([name for name in libraries.split() if name in sys.modules])
print(json.dumps(there))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[] for _ in PAID]
