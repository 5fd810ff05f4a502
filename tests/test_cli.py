"""The command line as a person types it."""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import slicer_lite as sl
from slicer_lite.cli import main
from slicer_lite.config import Config

SMALL = "--channels 4 --dim 16 --clusters 4 --queue 64 --mix-memory 32 --batch-size 8 --steps 4".split()  # noqa: SIM905


def test_pretrain_probe_embed(tones, tmp_path, capsys):
    run = tmp_path / "run"
    main(["pretrain", "--data", str(tones), "--preset", "tiny", "--out", str(run), *SMALL])
    said = capsys.readouterr()
    assert "4 steps" in said.out
    assert "training: 100%" in said.err
    main(["probe", "--weights", str(run), "--data", str(tones), "--json", str(tmp_path / "out.json")])
    assert "mel mean + deviation" in capsys.readouterr().out
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["tasks"]["pitch"]["majority class"]["accuracy"] == 0.5
    main(["embed", "--weights", str(run), "--data", str(tones), "--out", str(tmp_path / "e.npz")])
    with np.load(tmp_path / "e.npz", allow_pickle=False) as file:
        assert file["embeddings"].shape == (48, 16)
        assert file["paths"][0].endswith(".wav")


def test_embeddings_that_could_not_be_written_leave_no_half_a_file(tones, tmp_path, capsys, monkeypatch):
    def half(file, **arrays):
        with file if hasattr(file, "write") else Path(file).open("wb") as there:
            there.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    command = ["embed", "--weights", "tiny", "--data", str(tones), "--out", str(tmp_path / "e.npz")]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(np, "savez", half)
        main(command)
    assert "e.npz" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    main(command)
    with np.load(tmp_path / "e.npz") as file:
        assert len(file["embeddings"]) == 48


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_an_interruption_at_once_says_what_there_is(tones, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("slicer_lite.sounds.make_sounds", interrupt)
    with pytest.raises(SystemExit) as ended:
        main(["make-sounds", "--out", str(tmp_path / "sounds")])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted.\n"
    task = ["lape", "run", "--weights", "tiny", "--data", str(tones), "--out", str(tmp_path / "lape")]
    monkeypatch.setattr("slicer_lite.lape.run.run_task", interrupt)
    with pytest.raises(SystemExit):
        main(task)
    assert capsys.readouterr().err.startswith(
        "Interrupted: tasks that were finished are kept. To go on: slicer-lite lape run"
    )
    monkeypatch.setattr("slicer_lite.training.pretrain.pretrain", interrupt)
    with pytest.raises(SystemExit):
        main(["pretrain", "--data", str(tones), "--out", str(tmp_path / "run"), *SMALL])
    said = capsys.readouterr().err
    assert said.startswith(
        "Interrupted at once. To go on from the last checkpoint, if there is one: slicer-lite pretrain"
    )


@pytest.mark.filterwarnings("default")
def test_of_torchruns_processes_one_speaks(tones, tmp_path, capsys, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.wav").write_bytes(b"no sound")
    for path in list(tones.glob("*.wav"))[:9]:
        (tmp_path / "data" / path.name).write_bytes(path.read_bytes())
    command = ["embed", "--weights", "tiny", "--data", str(tmp_path / "data"), "--out"]
    main([*command, str(tmp_path / "0.npz")])
    assert "Note: " in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    main([*command, str(tmp_path / "1.npz")])
    assert "Note: " not in capsys.readouterr().err


def test_a_short_run_is_not_called_ill_at_its_end(tones, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("slicer_lite.training.health.diagnose", lambda metrics: ["Ill: very."])
    main(["pretrain", "--data", str(tones), "--out", str(tmp_path / "run"), *SMALL])
    assert "Ill" not in capsys.readouterr().out
    main(["pretrain", "--data", str(tones), "--out", str(tmp_path / "long"), *SMALL[:-1], "50"])
    assert "Ill" in capsys.readouterr().out


def test_results_are_never_overwritten(tones, tmp_path, capsys):
    (tmp_path / "out.json").write_text("precious")
    with pytest.raises(SystemExit) as ended:
        main(["probe", "--weights", "tiny", "--data", str(tones), "--json", str(tmp_path / "out.json")])
    assert ended.value.code == 1
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "out.json").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pretrain", "--data", "x", "--out", "y", "--preset", "huge"], 2, "huge"),
        (["pretrain", "--data", "x", "--out", "y", "--batch-size", "-1"], 2, "batch_size = -1: it must be"),
        (["pretrain", "--data", "x", "--out", "y", "--seed", "one"], 2, "one"),
        (["train"], 2, "train"),
        (["probe", "--weights", "nowhere", "--data", "sounds"], 1, "nowhere does not exist"),
    ],
)
def test_misuse_is_explained(arguments, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == code
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message


def test_debug_shows_where(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["pretrain", "--data", str(tmp_path / "no"), "--out", str(tmp_path / "run"), "--debug"])


def test_help_says_what_every_setting_is_and_where_its_default_is_from(capsys):
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    settings = words.partition("settings options")[2]
    for field in dataclasses.fields(Config):
        option = field.name.replace("_", "-")
        said = re.search(rf"--(no-)?{option} (.*?)\(default: ", settings)[2]
        about = field.metadata
        assert re.search("[A-Za-z]", about["what"]), option
        assert re.search(r"\[(P|R|B|C|M|ours)\]", about["source"]), option
        for part in ("what", "unit", "source"):
            assert about[part] in said, f"{option}: {said}"


def test_help_shows_the_defaults_of_the_preset(capsys):
    for preset, batch in (("tiny", 256), ("paper", 512)):
        with pytest.raises(SystemExit):
            main(["pretrain", "--preset", preset, "--help"])
        assert f"(default: {batch})" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [["embed", "--data", "x", "--out"], ["probe", "--data", "x", "--json"], ["export", "--out"]]
)
def test_weights_that_are_not_there_leave_no_folder_behind(command, tmp_path, capsys):
    name, *rest = command
    with pytest.raises(SystemExit):
        main([name, "--weights", str(tmp_path / "none"), *rest, str(tmp_path / "new" / "file.onnx")])
    assert "none does not exist" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("first", "last"), [("tiny", "paper"), ("paper", "tiny")])
def test_of_two_presets_the_last_counts(monkeypatch, tmp_path, first, last):
    taken = []
    monkeypatch.setattr(
        "slicer_lite.training.pretrain.pretrain", lambda config, *_, **__: taken.append(config)
    )
    monkeypatch.setenv("RANK", "1")  # of several processes the first speaks of the run's end
    main(["pretrain", "--data", "x", "--out", str(tmp_path / "r"), "--preset", first, f"--preset={last}"])
    assert taken == [sl.preset(last)]


def test_python_dash_m():
    done = subprocess.run(
        [sys.executable, "-m", "slicer_lite", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "pretrain" in done.stdout


def test_importing_the_package_leaves_the_heavy_libraries_alone():
    code = (
        "import sys, slicer_lite; heavy = 'umap jupyterlab torchvision IPython matplotlib.pyplot'.split(); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_results_are_written_also_where_the_terminal_lacks_their_letters(tones, tmp_path):
    shutil.copytree(tones, tmp_path / "tones")
    manifest = tmp_path / "tones" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("pitch", "音高"), encoding="utf-8")
    out = tmp_path / "音.json"
    command = ["probe", "--weights", "tiny", "--data", str(tmp_path / "tones"), "--json", str(out)]
    found = subprocess.run(
        [sys.executable, "-m", "slicer_lite", *command],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
    )
    assert found.returncode == 0, found.stderr
    assert "音高" in json.loads(out.read_text(encoding="utf-8"))["tasks"]


@pytest.mark.parametrize(
    "mistake, said",
    [
        (["--weights", "typo", "--out", "e.npz"], "typo"),
        (["--weights", "tiny", "--out", "e.npz", "--device", "tpu"], "Unknown device"),
        (["--weights", "tiny", "--out", "."], "name of a file"),
        (["--weights", "tiny", "--out", "blocked/e.npz"], "blocked"),
    ],
)
def test_mistakes_are_found_before_the_work(mistake, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "slicer_lite.audio.store.load_clips", lambda *_, **__: pytest.fail("the work has begun")
    )
    (tmp_path / "blocked").write_text("a file, no folder")
    with pytest.raises(SystemExit) as ended:
        main(["embed", "--data", "sounds", *mistake])
    assert ended.value.code == 1
    assert said in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"blocked"}


def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(
        "slicer_lite.audio.store.load_clips", lambda *_, **__: pytest.fail("the work has begun")
    )
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(SystemExit):
        main(["embed", "--data", "sounds", "--weights", "tiny", "--out", str(tmp_path / "e.npz")])
    assert f"{tmp_path} cannot be written to" in capsys.readouterr().err
