"""The doctor: one line each, and a remedy wherever something is missing."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib.metadata import PackageNotFoundError

import pytest

import slicer_lite as sl
from slicer_lite import doctor
from slicer_lite.cli import main


def found(what):
    return next(finding for finding in doctor.examine() if finding.what == what)


def test_one_line_for_each_thing(capsys):
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    kinds = ["python", "versions", "device", "bf16", "processors", "audio", "disk"]
    kinds += [f"extra {name}" for name in doctor.EXTRAS] + ["browser"]
    assert len(lines) == len(kinds)
    for kind, line in zip(kinds, lines, strict=True):
        assert line[6:].startswith(kind)
        assert line.startswith(("ok", "note"))


def test_what_reads_no_mp3_is_broken(monkeypatch, capsys):
    monkeypatch.setattr("soundfile.available_formats", lambda: {"WAV": "", "FLAC": "", "OGG": ""})
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert ".mp3" in line
    assert "Remedy: pip install --upgrade soundfile" in line


def test_a_full_disk_is_noted(monkeypatch, tmp_path):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "not" / "there"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**11, 10**11 - 10**9, 10**9))
    disk = found("disk")
    assert disk.state == "note"
    assert "1.0 GB free" in disk.found
    assert str(tmp_path) in disk.found
    assert "SLICER_LITE_CACHE" in disk.remedy
    assert not (tmp_path / "not").exists()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: name != "umap-learn")
    extra = found("extra notebooks")
    assert (extra.state, extra.found) == ("note", "missing umap-learn")
    assert "pip install 'slicer-lite[notebooks]'" in extra.remedy
    monkeypatch.setattr(doctor, "_installed", lambda name: True)
    assert found("extra notebooks").found == "complete"


def test_an_extra_that_the_installed_version_lacks(monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", ("choir",))
    assert found("extra choir").remedy == "install slicer-lite anew"


def test_another_python_is_broken(monkeypatch):
    monkeypatch.setattr("sys.version_info", (3, 10, 0, "final", 0))
    assert found("python").remedy == "use Python 3.11 to 3.13"


def test_no_browser_is_noted(monkeypatch):
    monkeypatch.setattr(doctor, "find_browser", lambda: None)
    assert "playwright install chromium" in found("browser").remedy


def test_a_look_that_fails_is_a_finding(monkeypatch):
    def fail(name="auto"):
        raise RuntimeError("driver too old")

    monkeypatch.setattr(doctor, "choose_device", fail)
    device = found("device")
    assert device.state == "broken"
    assert "driver too old" in device.found


def test_a_driver_that_pytorch_cannot_use_is_noted(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for version, word in (("13.0", "driver"), (None, "without CUDA")):
        monkeypatch.setattr("torch.version.cuda", version)
        device = found("device")
        assert device.state == "note"
        assert word in device.remedy


def test_a_cache_that_is_a_file_is_broken(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    for folder in ("cache", "cache/inside"):
        monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / folder))
        assert found("disk").state == "broken"


def test_a_clone_that_is_not_installed_is_noted(monkeypatch, capsys):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", missing)
    findings = [finding for finding in doctor.examine() if finding.what.startswith("extra")]
    assert findings and {finding.state for finding in findings} == {"note"}
    assert "not installed" in findings[0].found and "pip install" in findings[0].remedy


def test_a_browser_that_cannot_be_looked_for_is_noted(monkeypatch):
    def inside_jupyter():
        raise RuntimeError("Sync API inside the asyncio loop")

    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("playwright.sync_api.sync_playwright", inside_jupyter)
    assert found("browser").state == "note"


@pytest.mark.parametrize(
    ("package", "error", "what", "remedy"),
    [
        ("torchaudio", "OSError('undefined symbol')", "versions", "--force-reinstall torch torchaudio"),
        ("soundfile", "OSError('sndfile library not found')", "audio", "--force-reinstall soundfile"),
    ],
)
def test_a_library_that_does_not_load_is_named_with_its_remedy(tmp_path, package, error, what, remedy):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(f"raise {error}")
    done = subprocess.run(
        [sys.executable, "-m", "slicer_lite", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("BAD")]
    assert line[6:].startswith(what)
    assert remedy in line


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: name != "soundfile")
    versions = found("versions")
    assert (versions.state, versions.found, versions.remedy) == (
        "broken", "missing soundfile", "pip install soundfile",
    )  # fmt: skip


def test_without_soundfile_the_remedy_is_named(monkeypatch, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ModuleNotFoundError, match="pip install --force-reinstall soundfile"):
        sl.load_clips(tmp_path, progress=False)
