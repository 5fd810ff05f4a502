"""Is everything here that slicer-lite needs? One line for each thing, with the remedy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

import slicer_lite
from slicer_lite.audio.table import AUDIO_SUFFIXES, cache_folder
from slicer_lite.base.device import choose_device, computes_in_bf16

LEAST_FREE = 2.0  # GB; an hour of sound takes 0.12 GB of the store
EXTRAS = ("notebooks", "media", "hub", "export", "tensorboard", "docs", "test")  # of pyproject.toml
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What libsndfile calls the formats of our suffixes.
_FORMATS = {"WAV": ".wav", "FLAC": ".flac", "OGG": ".ogg .oga .opus", "MP3": ".mp3", "AIFF": ".aiff .aif",
            "AU": ".au", "CAF": ".caf"}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line: `state` is `fine`, `note` (something optional is missing or slow) or `broken`."""

    what: str
    state: Literal["fine", "note", "broken"]
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at this machine and this environment; nothing is changed."""
    looks: list[Callable[[], Finding]] = [
        _python, _versions, _device, _bf16, _processors, _audio, _disk,
        *(partial(_extra, name) for name in EXTRAS), _browser,
    ]  # fmt: skip
    findings = []
    for look in looks:
        try:
            findings.append(look())
        except Exception as error:  # a doctor who faints helps nobody
            name = getattr(look, "func", look).__name__.lstrip("_")
            findings.append(
                Finding(name, "broken", f"{type(error).__name__}: {error}", "report this, please")
            )
    return findings


def as_text(findings: list[Finding]) -> str:
    """The findings, one a line."""
    width = max(len(finding.what) for finding in findings)
    marks = {"fine": "ok  ", "note": "note", "broken": "BAD "}
    return "\n".join(
        f"{marks[f.state]}  {f.what.ljust(width)}  {f.found}" + (f". Remedy: {f.remedy}" if f.remedy else "")
        for f in findings
    )


def _python() -> Finding:
    right = (3, 11) <= sys.version_info[:2] <= (3, 13)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}"
    return Finding("python", "fine" if right else "broken", found, "" if right else "use Python 3.11 to 3.13")


def _versions() -> Finding:
    names = ("torch", "torchaudio", "numpy", "scikit-learn", "soundfile", "soxr")
    missing = [name for name in names if not _installed(name)]
    if missing:
        return Finding(
            "versions", "broken", f"missing {', '.join(missing)}", f"pip install {' '.join(missing)}"
        )
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    try:
        import torchaudio.functional  # noqa: F401
    except Exception as error:  # whatever a library that was built for another PyTorch says
        remedy = "pip install --force-reinstall torch torchaudio, whose versions must fit each other"
        return Finding("versions", "broken", f"{found}; torchaudio does not work ({error})", remedy)
    return Finding("versions", "fine", f"slicer-lite {slicer_lite.__version__}, {found}")


def _device() -> Finding:
    device = choose_device()
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        return Finding("device", "fine", f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB")
    if device.type == "mps":
        return Finding("device", "fine", "Apple's MPS (fp32)")
    if shutil.which("nvidia-smi"):
        remedy = (
            f"this PyTorch is built for CUDA {torch.version.cuda} and cannot use the driver: nvidia-smi says whether "
            "it works and is new enough"
            if torch.version.cuda
            else "this PyTorch is built without CUDA: pip install --force-reinstall torch torchaudio"
        )
        return Finding("device", "note", "the CPU, although an NVIDIA driver is there", remedy)
    return Finding("device", "fine", "the CPU: preset tiny is made for it")


def _bf16() -> Finding:
    if computes_in_bf16(choose_device()):
        return Finding("bf16", "fine", "yes: training uses it")
    return Finding(
        "bf16", "note", "no: training in fp32, which is right everywhere and slower where bf16 is fast"
    )


def _processors() -> Finding:
    count, threads = os.cpu_count(), torch.get_num_threads()
    return Finding(
        "processors", "fine", f"{count}, of which PyTorch uses {threads} (OMP_NUM_THREADS changes it)"
    )


def _audio() -> Finding:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        return Finding(
            "audio", "broken", f"soundfile does not work ({error})", "pip install --force-reinstall soundfile"
        )
    readable = soundfile.available_formats()
    missing = [suffixes for name, suffixes in _FORMATS.items() if name not in readable]
    found = f"{' '.join(sorted(AUDIO_SUFFIXES))} (libsndfile {soundfile.__libsndfile_version__})"
    if missing:
        return Finding(
            "audio", "broken", f"cannot read {' '.join(missing)}", "pip install --upgrade soundfile"
        )
    return Finding("audio", "fine", found)


def _disk() -> Finding:
    folder = cache_folder()
    existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not existing.is_dir():
        return Finding(
            "disk",
            "broken",
            f"{existing} is not a folder",
            "set SLICER_LITE_CACHE to a folder that is there, or new",
        )
    free = shutil.disk_usage(existing).free / 1e9
    if not os.access(existing, os.W_OK):
        return Finding(
            "disk", "broken", f"{folder} cannot be written to", "set SLICER_LITE_CACHE to another folder"
        )
    remedy = "" if free >= LEAST_FREE else "make room, or set SLICER_LITE_CACHE to a folder on another disk"
    return Finding(
        "disk", "note" if remedy else "fine", f"{free:.1f} GB free for decoded clips in {folder}", remedy
    )


def _extra(name: str) -> Finding:
    if not _installed("slicer-lite"):
        return Finding(f"extra {name}", "note", "slicer-lite is not installed", "in the clone, pip install .")
    extras = importlib.metadata.metadata("slicer-lite").get_all("Provides-Extra") or []
    if name not in extras:
        return Finding(
            f"extra {name}", "note", "not known to the installed package", "install slicer-lite anew"
        )
    needed = [line.partition(";") for line in importlib.metadata.requires("slicer-lite") or []]
    names = [
        re.split(r"[^\w.-]", package)[0] for package, _, when in needed if name in re.findall(r"\w+", when)
    ]
    missing = [package for package in names if not _installed(package)]
    if missing:
        remedy = f"if you want it, pip install 'slicer-lite[{name}]'"
        return Finding(f"extra {name}", "note", f"missing {', '.join(missing)}", remedy)
    return Finding(f"extra {name}", "fine", "complete")


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def find_browser() -> str | None:
    """The path of an installed Chromium or Chrome, or of the one that Playwright has fetched."""
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    if installed or not _installed("playwright"):
        return installed
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        fetched = playwright.chromium.executable_path
    return fetched if Path(fetched).exists() else None


def _browser() -> Finding:
    try:
        found = find_browser()
    except Exception as error:  # Playwright refuses inside a notebook's event loop
        return Finding("browser", "note", f"not looked for ({type(error).__name__})")
    if found:
        return Finding("browser", "fine", f"{found}, for the tests of the widgets")
    remedy = "for those alone: apt-get install chromium, brew install --cask chromium, or playwright install chromium"
    return Finding("browser", "note", "no Chromium for the tests of the widgets", remedy)
