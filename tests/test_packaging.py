"""Project files that have to agree with each other."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import slicer_lite

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `hub`")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_lists_what_pyproject_lists():
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    extras = PROJECT["optional-dependencies"]
    assert pip == {"pip": [*PROJECT["dependencies"], *extras["notebooks"], *extras["test"], "--editable ."]}
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]


def test_the_version_has_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", slicer_lite.__version__)
    assert "version" in PROJECT["dynamic"]


def test_the_top_level_is_as_agreed():
    allowed = set("notebooks slicer_lite tests benchmarks docs README.md environment.yml".split())  # noqa: SIM905
    allowed |= {"pyproject.toml", "Makefile", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"}
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone: what belongs to the project is not known")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    there = {name.partition("/")[0] for name in tracked.splitlines()}
    assert {name for name in there if not name.startswith(".")} <= allowed


def test_citation_and_changelog_know_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {slicer_lite.__version__}\n" in citation
    assert f"\n## {slicer_lite.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_has_its_licence_listed():
    table = (ROOT / "docs" / "licences.md").read_text()
    listed = set(re.findall(r"^\| ([\w-]+) \| \w+ \| \S", table, re.MULTILINE)) - {"package"}
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    needed = {re.split(r"[^\w-]", line)[0] for lines in lists for line in lines}
    assert listed == needed


def test_the_hosted_workflow_runs_what_make_runs():
    """make is absent on Windows, so the workflow repeats its commands."""
    makefile, workflow = ((ROOT / name).read_text() for name in ("Makefile", ".github/workflows/test.yml"))
    jobs = yaml.safe_load(workflow)["jobs"].values()
    run = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    for target in ("style", "check"):
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
        for command in recipe.splitlines():
            assert command.strip().removeprefix("$(BIN)/") in run
    for python in ("3.11", "3.12", "3.13"):
        assert f'"{python}"' in workflow
        assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_they_should(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", tmp_path, ROOT],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "Could not find a version that satisfies the requirement hatchling" in done.stderr + done.stdout:
        pytest.skip("building fetches hatchling, and there is no network")
    assert done.returncode == 0, done.stderr + done.stdout
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "slicer_lite").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert {name for name in names if ".dist-info/" not in name} == package  # front-end files and weights too
    scripts = next(name for name in names if name.endswith("entry_points.txt"))
    assert "slicer-lite = slicer_lite.cli:main" in zipfile.ZipFile(wheel).read(scripts).decode()
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert package | {"CHANGELOG.md", "CITATION.cff", "Makefile", "environment.yml", "docs/site.py"} <= inside

    # Unpacked elsewhere, with JupyterLab and all optional packages out of reach, it trains and embeds.
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "site")!r})
absent = "jupyterlab ipykernel IPython ipywidgets anywidget umap av huggingface_hub onnx onnxruntime tensorboard"
absent += " pytest"
sys.modules.update(dict.fromkeys(absent.split()))
import slicer_lite
assert slicer_lite.__file__.startswith({str(tmp_path / "site")!r})
from slicer_lite.cli import main
main("make-sounds --out world --clips 200".split())
tiny = "--channels 4 --dim 16 --batch-size 8 --steps 2 --queue 64 --device cpu"
main(f"pretrain --data world --out run {{tiny}}".split())
main("embed --weights run --data world --out embeddings.npz".split())
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    assert (tmp_path / "embeddings.npz").exists()
