"""Project files that have to agree with each other."""

import re
import tomllib
from pathlib import Path

import slicer_lite

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_lists_what_pyproject_lists():
    text = (ROOT / "environment.yml").read_text()
    conda, _, pip = text.partition("  - pip:\n")
    listed = re.findall(r"^ +- (.+)$", pip, re.MULTILINE)
    extras = PROJECT["optional-dependencies"]
    assert listed == [*PROJECT["dependencies"], *extras["notebooks"], *extras["test"], "--editable ."]
    assert f"- python{PROJECT['requires-python']}\n" in conda


def test_the_version_has_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", slicer_lite.__version__)
    assert "version" in PROJECT["dynamic"]


def test_the_top_level_is_as_agreed():
    allowed = set("notebooks slicer_lite tests benchmarks docs README.md environment.yml".split())  # noqa: SIM905
    allowed |= {"pyproject.toml", "Makefile", "LICENSE"}
    there = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    made = {"runs", "build", "dist"}  # by the commands of the README
    assert there - made <= allowed
