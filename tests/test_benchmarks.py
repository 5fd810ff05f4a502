"""The benchmarks start, and write through one place. (What they measure is no matter of tests.)"""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NO_SCRIPTS = {"measure", "table"}  # what they share; README's table, which takes no options
SCRIPTS = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - NO_SCRIPTS)


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_starts_and_says_what_it_does(name, load, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as left:
        load(name).main()
    assert left.value.code == 0
    script, shown = load(name), capsys.readouterr().out
    assert script.__doc__.splitlines()[0] in shown


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_has_a_command_line_or_json_of_its_own(name):
    text = (BENCHMARKS / f"{name}.py").read_text(encoding="utf-8")
    assert "ArgumentParser(" not in text
    assert "write_json" not in text
    assert "from measure import" in text


def test_parts_are_kept_but_for_those_that_are_measured(tmp_path, load):
    measure, path = load("measure"), tmp_path / "new" / "parts.json"
    measure.measure_parts({"a": lambda: {"x": 1}, "b": lambda: {"x": 2}}, "a,b", path)
    measure.measure_parts({"a": lambda: {"x": 3}}, "a", path)
    found = json.loads(path.read_text())
    assert [found[name]["x"] for name in ("a", "b")] == [3, 2]
    assert found["a"]["machine"] == measure.machine()


def test_an_unknown_part_is_named_before_anything_is_measured(tmp_path, load):
    def never():
        raise AssertionError

    with pytest.raises(SystemExit, match="^--parts a,speed: there is no speed, but a, b.$"):
        load("measure").measure_parts({"a": never, "b": never}, "a,speed", tmp_path / "parts.json")
    assert not list(tmp_path.iterdir())


def test_a_report_says_how_it_was_made_without_this_machines_folders(tmp_path, load, monkeypatch):
    measure, path = load("measure"), tmp_path / "report.json"
    monkeypatch.setattr(
        sys, "argv", ["/there/learning.py", "--data", "/mine", "--seeds", "2", f"--out={path}"]
    )
    measure.write_report(path, "what it is", figure=1)
    found = measure.read(path)
    assert list(found) == ["what", "command", "figure", "machine"]
    assert found["command"] == "python benchmarks/learning.py --data FOLDER --seeds 2"


def test_only_a_file_that_may_be_missing_is_taken_for_empty(tmp_path, load):
    read = load("measure").read
    assert read(tmp_path / "none.json", []) == []
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        read(tmp_path / "none.json")
