"""What several test files use."""

import csv
import multiprocessing
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook
from matplotlib.figure import Figure

# Before anything of the method is imported: the shapes in the types of its functions are executed.
install_import_hook("slicer_lite.method", "shapes.checked")

import slicer_lite as sl
from slicer_lite.base import device
from slicer_lite.training import curves, pretrain

settings.register_profile("quiet", deadline=None, max_examples=25, print_blob=True)
settings.load_profile("quiet")

RECORDINGS = Path(__file__).parents[2] / "shared" / "data" / "recordings"


def pytest_terminal_summary(terminalreporter):
    """One line of what people would miss: the browser tests, which need a program that is no Python package."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if "tests/browser/" in report.nodeid
    ]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} browser tests were skipped: there is no Chromium. To run them: make browser, or install "
            "the system's package chromium, then make test.",
            yellow=True,
        )


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Tests decode into a cache of their own, never into the user's."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SLICER_LITE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard():
    """Programs in the background of a shell's script ignore Ctrl-C; the tests that send it need it there, too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def shapes_are_executed(request, monkeypatch):
    """… but where a test is about the refusal of another shape, and in networks that are compiled."""
    if any(request.node.get_closest_marker(name) for name in ("unchecked", "long")):
        monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """What chooses a device by itself takes the CPU also where there is a GPU: tests of one ask for it by name."""
    monkeypatch.setattr(device, "_best", lambda: torch.device("cpu"))


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """A run ends with an empty picture: drawing its curves takes longer than the short runs of most tests."""
    monkeypatch.setattr(pretrain, "curves", SimpleNamespace(curves=lambda run: Figure()))


@pytest.fixture
def drawn(undrawn, monkeypatch):
    """A run ends with its curves, as it does outside tests."""
    monkeypatch.setattr(pretrain, "curves", curves)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def spawn():
    """Begin `target(*arguments)` in a process of its own, which has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["slicer_lite.cli", "pytest", "hypothesis"])

    def spawn(target, *arguments):
        child = context.Process(target=target, args=arguments)
        child.start()
        return child

    return spawn


@pytest.fixture(scope="session")
def recordings():
    """The real recordings that the project is developed on."""
    if not (RECORDINGS / "manifest.csv").exists():
        pytest.skip(f"the real recordings are not there ({RECORDINGS})")
    return RECORDINGS


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """A folder with a manifest: 48 clips of noisy tones, two labels, train and test."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "task", "label", "split", "group"])
        for number in range(48):
            low = number % 2 == 0
            length = int(rng.integers(8_000, 40_000))
            pitch = rng.uniform(200, 400) if low else rng.uniform(1500, 3000)
            samples = 0.3 * np.sin(2 * np.pi * pitch * np.arange(length) / 16_000)
            samples += 0.02 * rng.standard_normal(length)
            soundfile.write(folder / f"{number}.wav", samples, 16_000)
            split = "test" if number >= 32 else "train"
            writer.writerow([f"{number}.wav", "pitch", "low" if low else "high", split, f"g{number // 2}"])
    return folder


@pytest.fixture(scope="session")
def minute() -> sl.Config:
    """Settings so small that a step takes milliseconds; all of them, so that no preset changes what tests test."""
    return sl.Config(
        channels=4,
        dim=16,
        dropout=0.3,
        projection_dim=128,
        projection_layers=1,
        clusters=4,
        mixing="kmix",
        mix_ratio=0.4,
        mix_memory=32,
        mix_top_k=128,
        mix_centroids=4,
        mix_before_standardising=False,
        crop_min=0.6,
        crop_max=1.5,
        two_windows=False,
        method="slicer",
        temperature=0.05,
        queue=64,
        mask_own_keys=True,
        cluster_temperature=1.0,
        instance_weight=1.0,
        cluster_weight=1.0,
        entropy_weight=1.0,
        decorrelation_weight=1.0,
        symmetric=True,
        teacher_momentum=0.99,
        optimizer="adamw",
        learning_rate=1e-3,
        momentum=0.9,
        weight_decay=1e-4,
        warmup=0.025,
        schedule="cosine",
        batch_size=8,
        steps=12,
        seed=0,
        precision="fp32",
    )
