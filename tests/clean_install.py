"""Build wheel and sdist, install the wheel with its dependencies into a new environment, and use it there.

    python tests/clean_install.py [FOLDER]

It downloads all dependencies, gigabytes with PyTorch's CUDA build, so no test runs it; hosted CI does, and before a
release a person should.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
USE = """
import importlib.util, slicer_lite as sl, sys
assert sl.__file__.startswith(sys.prefix), f"{sl.__file__} is not the wheel"
assert importlib.util.find_spec("jupyterlab") is None, "JupyterLab should not be needed"
from slicer_lite.cli import main
main("make-sounds --out world --clips 200".split())
tiny = "--preset tiny --channels 4 --dim 16 --batch-size 8 --steps 2 --queue 64 --device cpu"
main(f"pretrain --data world --out run {tiny}".split())
main("embed --weights run --data world --out embeddings.npz".split())
main("doctor".split())
"""


def main(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT], check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "env", with_pip=True, clear=True)
    programs = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", wheel], check=True)
    work = folder / "work"
    work.mkdir()
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean["SLICER_LITE_CACHE"] = str(folder / "cache")  # nothing is left in the user's
    subprocess.run([programs / "python", "-c", USE], check=True, cwd=work, env=clean)
    subprocess.run([programs / "slicer-lite", "--help"], check=True, cwd=work, env=clean)
    print(f"{wheel.name} works in a clean environment.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True)
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
