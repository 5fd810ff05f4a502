"""A run: what it leaves behind, and that nothing can interrupt it for good."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import slicer_lite as sl
from slicer_lite.base.randomness import clip_order, generator, seeded
from slicer_lite.cli import main
from slicer_lite.share.weights import save_weights, untrained, untrained_encoder
from slicer_lite.training import curves, health, loop, pretrain, watchers
from slicer_lite.training.checkpoint import load_checkpoint, newest_step, save_checkpoint
from slicer_lite.training.run_folder import read_metrics


def bits(run):
    """Hashes of everything that must not depend on interruptions."""
    state = load_checkpoint(run / "checkpoints")[1]
    digests = {name: hashlib.sha256(t.numpy().tobytes()).hexdigest() for name, t in state.items()}
    files = ["weights.safetensors", "metrics.jsonl"]
    files += [f"snapshots/{path.name}" for path in sorted((run / "snapshots").iterdir())]
    for name in files:
        digests[name] = hashlib.sha256((run / name).read_bytes()).hexdigest()
    return digests


@pytest.fixture(scope="module")
def clips(tones):
    return sl.load_clips(tones, progress=False)


@pytest.mark.usefixtures("drawn")
def test_a_run_folder_explains_itself(clips, tmp_path, minute):
    run = tmp_path / "run"
    trained = sl.pretrain(minute, clips, run, progress=False)
    assert trained.step == 12
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["batch_size"] == 8
    assert config["clips"]["number"] == 32  # the test split is not touched
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert {"total", "instance", "cluster", "entropy", "learning_rate"} <= lines[0].keys()
    assert {"clusters_used", "cluster_entropy", "rank", "drift"} <= lines[-1].keys()
    assert not any("second" in name for line in lines for name in line)  # nothing that depends on the clock
    assert len((run / "timings.jsonl").read_text().splitlines()) == 12
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    snapshots = sorted(path.name for path in (run / "snapshots").iterdir())
    assert snapshots[0] == "step-00000000.safetensors"
    assert snapshots[-1] == "step-00000012.safetensors"
    assert 1 <= len(list((run / "checkpoints").iterdir())) <= 2


def test_the_encoder_carries_the_statistics_of_its_clips(clips, tmp_path, minute):
    trained = sl.pretrain(minute, clips, tmp_path / "run", steps=1, progress=False)
    part = clips.for_pretraining()
    windows = part.windows(np.arange(len(part)), part.room // 2)
    lms = sl.LogMel()(windows.float() / 32768)
    assert trained.encoder.mean.item() == pytest.approx(lms.mean().item(), abs=0.5)
    assert trained.encoder.deviation.item() == pytest.approx(lms.std().item(), rel=0.1)
    standardised = trained.encoder.standardise(lms)
    assert abs(standardised.mean().item()) < 0.2


def test_two_windows_are_two(clips, tmp_path, minute):
    one = sl.pretrain(minute, clips, tmp_path / "one", steps=1, progress=False)
    two = sl.pretrain(minute.replace(two_windows=True), clips, tmp_path / "two", steps=1, progress=False)
    assert one.encoder.mean == two.encoder.mean
    losses = [read_metrics(tmp_path / name)[0]["cluster"] for name in ("one", "two")]
    assert losses[0] != losses[1]


def test_a_run_from_before_a_setting_existed_goes_on(clips, tmp_path, minute):
    sl.pretrain(minute, clips, tmp_path, steps=2, progress=False)
    path = tmp_path / "config.json"
    noted = json.loads(path.read_text())
    del noted["config"]["two_windows"]
    path.write_text(json.dumps(noted))
    assert sl.pretrain(minute, clips, tmp_path, steps=2, progress=False).step == 2
    with pytest.raises(ValueError, match="two_windows: False there, True here"):
        sl.pretrain(minute.replace(two_windows=True), clips, tmp_path, steps=2, progress=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd"},
        {"optimizer": "muon"},
        {"mixing": "mixup"},
        {"mixing": "none"},
        {"method": "delores_m"},
        {"method": "moco"},
    ],
    ids=lambda changes: next(iter(changes.values())),
)
def test_stopped_and_resumed_is_the_same_run_bit_for_bit(clips, tmp_path, minute, changes):
    config = minute.replace(**changes)
    sl.pretrain(config, clips, tmp_path / "whole", progress=False)
    for stop_after in (1, 2, 7):
        stop = threading.Event()

        def count(metrics, stop=stop, at=stop_after):
            if metrics["step"] >= at:
                stop.set()

        assert (
            sl.pretrain(config, clips, tmp_path / "parts", progress=False, on_step=count, stop=stop).step < 12
        )
    sl.pretrain(config, clips, tmp_path / "parts", progress=False)
    assert bits(tmp_path / "parts") == bits(tmp_path / "whole")


def test_a_finished_run_is_left_alone(clips, tmp_path, minute):
    sl.pretrain(minute, clips, tmp_path / "run", progress=False)
    before = bits(tmp_path / "run")
    assert sl.pretrain(minute, clips, tmp_path / "run", progress=False).step == 12
    assert bits(tmp_path / "run") == before


def test_a_crash_after_the_last_checkpoint_is_mended(clips, tmp_path, minute):
    run = tmp_path / "run"
    sl.pretrain(minute, clips, run, progress=False)
    before = bits(run)
    (run / "weights.safetensors").unlink()
    (run / "curves.png").unlink()
    sl.pretrain(minute, clips, run, progress=False)
    assert bits(run) == before
    assert (run / "curves.png").exists()


@pytest.mark.slow
def test_an_illness_is_said_once_until_it_is_cured(clips, tmp_path, minute, capsys, monkeypatch):
    ill = {60, 80, 120}  # of the steps 20, 40, 60, … at which health is looked at
    monkeypatch.setattr(
        health, "diagnose", lambda m: ["Cluster collapse: bad."] if m["step"] in {20, *ill} else []
    )
    sl.pretrain(minute.replace(steps=120), clips, tmp_path / "run")
    captured = capsys.readouterr()
    lines = [line.strip() for line in (captured.out + captured.err).replace("\r", "\n").splitlines()]
    said = [line for line in lines if "collapse" in line]
    assert said == ["step 60: Cluster collapse: bad.", "step 120: Cluster collapse: bad."]


def test_the_global_random_state_is_not_disturbed(clips, tmp_path, minute):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    sl.pretrain(minute, clips, tmp_path / "run", steps=2, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_another_seed_is_another_run(clips, tmp_path, minute):
    sl.pretrain(minute, clips, tmp_path / "a", steps=2, progress=False)
    sl.pretrain(minute.replace(seed=1), clips, tmp_path / "b", steps=2, progress=False)
    assert read_metrics(tmp_path / "a")[1]["total"] != read_metrics(tmp_path / "b")[1]["total"]


def run_in_child(config, data, folder, save_share=watchers._CHECKPOINT_SHARE):
    torch.set_num_threads(1)
    watchers._CHECKPOINT_SHARE = save_share
    sl.pretrain(config, data, folder, progress=False)


@pytest.fixture
def start(spawn, tones):
    """Begin a run in a process of its own."""
    return lambda config, folder, **options: spawn(partial(run_in_child, config, tones, folder, **options))


@pytest.mark.slow
def test_killed_at_random_moments_and_restarted_ends_with_the_same_bits(start, tmp_path, minute):
    config = minute.replace(steps=200, channels=2, dim=8)
    whole = start(config, tmp_path / "whole")
    whole.join(300)
    assert whole.exitcode == 0
    killed, rng = tmp_path / "killed", np.random.default_rng(0)
    steps = []
    for _ in range(20):
        # A checkpoint after nearly every step: kills fall into their writing too.
        child = start(config, killed, save_share=1.0)
        before = checkpoints(killed)
        while checkpoints(killed) <= before and child.is_alive():
            time.sleep(0.002)
        child.join(rng.uniform(0, 0.04))  # it is training now; the kill falls into a step or into a save
        child.kill()
        child.join()
        steps.append(load_checkpoint(killed / "checkpoints")[0])
    assert sorted(steps) == steps
    assert steps[-1] < 200, "every kill has to interrupt: the run is too short"
    last = start(config, killed)
    last.join(300)
    assert last.exitcode == 0
    assert bits(killed) == bits(tmp_path / "whole")


@pytest.mark.slow
def test_the_real_command_killed_and_restarted_ends_with_the_same_bits(spawn, tones, tmp_path):
    options = "--channels 4 --dim 16 --clusters 4 --queue 64 --mix-memory 32 --batch-size 8 --steps 100"
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def command(run):
        return ["pretrain", "--data", str(tones), "--out", str(run), "--device", "cpu", *options.split()]

    def typed(run):
        words = [sys.executable, "-m", "slicer_lite", *command(run)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    child = typed(killed)
    while not checkpoints(killed) and child.poll() is None:
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert load_checkpoint(killed / "checkpoints")[0] < 100, "the kill has to interrupt: the run is too short"
    assert typed(killed).wait(300) == 0
    uninterrupted = spawn(run_command, command(whole))
    uninterrupted.join(300)
    assert uninterrupted.exitcode == 0
    assert bits(killed) == bits(whole)


def run_command(arguments):
    torch.set_num_threads(1)
    main(arguments)


# Where a save can be cut off: before the file has its name, before the folder is on the disk, before the oldest goes.
CUTS = {"rename": (Path, "replace"), "renamed": (os, "open"), "drop": (Path, "unlink")}


def run_cut_off(config, data, folder, cut):
    owner, name = CUTS[cut]
    real, saving = getattr(owner, name), []

    def last(*arguments, **options):
        if "checkpoints" in str(arguments[0]):
            saving.append(arguments)
            if len(saving) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(owner, name, last)
    run_in_child(config, data, folder, save_share=1.0)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("cut", CUTS)
def test_killed_at_every_point_of_a_save_and_restarted_ends_with_the_same_bits(
    start, spawn, tones, tmp_path, minute, cut
):
    whole = start(minute, tmp_path / "whole")
    whole.join(300)
    assert whole.exitcode == 0
    child = spawn(run_cut_off, minute, tones, tmp_path / "killed", cut)
    child.join(300)
    assert child.exitcode == -signal.SIGKILL
    assert 1 <= load_checkpoint(tmp_path / "killed" / "checkpoints")[0] < 12
    last = start(minute, tmp_path / "killed")
    last.join(300)
    assert last.exitcode == 0
    assert bits(tmp_path / "killed") == bits(tmp_path / "whole")


def checkpoints(run):
    return {path.name for path in run.glob("checkpoints/step-*")}


@pytest.mark.slow
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tones, tmp_path):
    run = tmp_path / "run"
    options = "--channels 4 --dim 16 --clusters 4 --queue 64 --mix-memory 32 --batch-size 8 --steps 100000"
    command = [sys.executable, "-m", "slicer_lite", "pretrain", "--data", str(tones), "--out", str(run)]
    child = subprocess.Popen([*command, *options.split()], stderr=subprocess.PIPE, text=True)
    while not checkpoints(run):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    last = said.strip().splitlines()[-1]
    step = load_checkpoint(run / "checkpoints")[0]
    assert last.startswith(
        f"Interrupted: stopped after step {step} of 100000; saved in {run}. To go on: slicer-lite"
    )
    assert "Traceback" not in said
    assert sl.load(run).step == step


def interrupt(metrics):
    """Ctrl-C in the second step."""
    if metrics["step"] == 2:
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_one_call_and_not_the_next_that_is_given_the_same_stop(clips, tmp_path, minute):
    stop = threading.Event()
    with pytest.raises(KeyboardInterrupt, match="after step 2 of 4"):
        sl.pretrain(minute, clips, tmp_path, 4, progress=False, on_step=interrupt, stop=stop)
    assert sl.pretrain(minute, clips, tmp_path, 4, progress=False, stop=stop).step == 4


def test_ctrl_c_in_the_last_step_is_too_late(clips, tmp_path, minute):
    assert sl.pretrain(minute, clips, tmp_path, 2, progress=False, on_step=interrupt).step == 2


def test_a_job_that_ignores_ctrl_c_goes_on_ignoring_it(clips, tmp_path, minute):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for the background of a shell's script
    try:
        trained = sl.pretrain(
            minute, clips, tmp_path, 3, progress=False, on_step=lambda _: signal.raise_signal(signal.SIGINT)
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert trained.step == 3


def test_a_widget_that_draws_meanwhile_does_not_change_what_training_draws():
    def draw(meanwhile):
        with seeded(1):
            return [torch.rand(1).item(), meanwhile(), torch.rand(1).item()][::2]

    inside, over = threading.Event(), threading.Event()

    def widget():
        with seeded(5):
            inside.set()
            over.wait(10)

    other = threading.Thread(target=widget)
    disturbed = draw(lambda: (other.start(), inside.wait(0.2)))
    over.set()
    other.join()
    assert disturbed == draw(lambda: None)


def test_a_finished_run_whose_metrics_are_gone_is_still_one(clips, tones, tmp_path, minute, capsys):
    sl.pretrain(minute, clips, tmp_path, 2, progress=False)
    curves = (tmp_path / "curves.png").read_bytes()
    (tmp_path / "metrics.jsonl").unlink()
    options = {
        name: value for name, value in minute.to_dict().items() if value != getattr(sl.preset("tiny"), name)
    }
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    main(
        ["pretrain", "--data", str(tones), "--out", str(tmp_path), *words, "--steps", "2", "--device", "cpu"]
    )
    assert "Weights, metrics" in capsys.readouterr().out
    assert (tmp_path / "curves.png").read_bytes() == curves


def test_snapshots_know_the_centroids(clips, tmp_path, minute):
    trained = sl.pretrain(minute, clips, tmp_path, 2, progress=False)
    snapshot = sl.load(tmp_path / "snapshots" / "step-00000001.safetensors")
    assert torch.equal(snapshot.centroids, trained.centroids)


def run_and_tell(config, data, folder):
    try:
        sl.pretrain(config, data, folder, progress=False)
    except OSError as error:
        (folder.parent / "said").write_text(f"{type(error).__name__}: {error}")


def test_a_second_process_in_the_same_folder_is_refused(clips, spawn, tones, tmp_path, minute):
    def again(metrics):
        with pytest.raises(BlockingIOError, match="Another process trains in"):
            sl.pretrain(minute, clips, tmp_path / "run", progress=False)
        other = spawn(run_and_tell, minute, tones, tmp_path / "run")
        other.join(300)

    sl.pretrain(minute, clips, tmp_path / "run", steps=1, progress=False, on_step=again)
    assert (tmp_path / "said").read_text().startswith("BlockingIOError: Another process trains in")


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_checkpoint_is_set_aside_and_the_older_serves(tmp_path, damage):
    folder = tmp_path / "checkpoints"
    for step in (1, 2, 3):
        newest = save_checkpoint(folder, step, {"x": torch.arange(10) * step})
    assert len(list(folder.iterdir())) == 2
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    newest.write_bytes({"flip": content, "truncate": content[:-9], "empty": b""}[damage])
    with pytest.warns(UserWarning, match="step-00000003.*is damaged"):
        step, state, _ = load_checkpoint(folder)
    assert step == 2
    assert torch.equal(state["x"], torch.arange(10) * 2)
    assert len(list(folder.glob("damaged-*"))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_checkpoint(folder)[0] == 2


def test_when_all_checkpoints_are_damaged_the_run_is_not_begun_again_silently(tmp_path):
    save_checkpoint(tmp_path, 1, {"x": torch.arange(10)}).write_bytes(b"no")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="All checkpoints .* are damaged"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("gone", ["damaged", "deleted"])
def test_a_stopped_run_without_checkpoints_is_never_begun_again_silently(clips, tmp_path, minute, gone):
    run, stop = tmp_path / "run", threading.Event()
    sl.pretrain(
        minute, clips, run, progress=False, stop=stop, on_step=lambda m: m["step"] == 5 and stop.set()
    )
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"no") if gone == "damaged" else path.unlink()
    before = {p: p.read_bytes() for p in run.rglob("*") if p.suffix in (".jsonl", ".json")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            with pytest.raises(ValueError, match="checkpoints"):
                sl.pretrain(minute, clips, run, progress=False)
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.suffix in (".jsonl", ".json")}
    assert sl.load(run).step == 5


def test_a_complete_run_whose_checkpoints_were_deleted_is_loaded(clips, tmp_path, minute):
    sl.pretrain(minute, clips, tmp_path, progress=False)
    shutil.rmtree(tmp_path / "checkpoints")
    before = (tmp_path / "metrics.jsonl").stat()
    assert sl.pretrain(minute, clips, tmp_path, progress=False).step == 12
    assert (tmp_path / "metrics.jsonl").stat().st_mtime_ns == before.st_mtime_ns


def test_what_a_kill_left_half_written_is_no_obstacle_and_does_not_stay(clips, tmp_path, minute):
    (tmp_path / ".config.json.unfinished").write_text("{")
    stop = threading.Event()
    stop.set()
    sl.pretrain(minute, clips, tmp_path, progress=False, stop=stop)
    for folder, name in (("checkpoints", f"step-00000001-{64 * 'a'}"), ("snapshots", "step-00000001")):
        (tmp_path / folder / f".{name}.safetensors.0123abcd.unfinished").write_bytes(b"half")
    sl.pretrain(minute, clips, tmp_path, progress=False)
    assert not list(tmp_path.rglob("*.unfinished"))


def run_with_little_room(config, data, folder, most):
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as on a full disk, the write fails instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    run_and_tell(config, data, folder)


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX's")
def test_when_the_disk_is_full_the_run_stops_and_the_previous_checkpoint_stays(
    clips, spawn, tones, tmp_path, minute
):
    run = tmp_path / "run"
    stop = threading.Event()
    sl.pretrain(
        minute, clips, run, progress=False, stop=stop, on_step=lambda m: m["step"] == 5 and stop.set()
    )
    largest = max(path.stat().st_size for path in (run / "checkpoints").iterdir())
    child = spawn(run_with_little_room, minute, tones, run, largest // 2)
    child.join(300)
    assert re.search("(File too large|No space left).* while writing.*step-", (tmp_path / "said").read_text())
    assert not list((run / "checkpoints").glob(".*"))  # nothing half-written is left
    found = load_checkpoint(run / "checkpoints")
    assert found[0] == 5
    assert sl.pretrain(minute, clips, run, progress=False).step == 12


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted on Linux, as root, only")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_run_on_a_full_disk_stops_and_goes_on_once_there_is_room(clips, small_disk, minute):
    run, ballast, stop = small_disk / "run", small_disk / "ballast", threading.Event()
    sl.pretrain(
        minute, clips, run, progress=False, stop=stop, on_step=lambda m: m["step"] == 5 and stop.set()
    )
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(OSError, match="No space left on device.* while writing"):
        sl.pretrain(minute, clips, run, progress=False)
    assert load_checkpoint(run / "checkpoints")[0] == 5
    ballast.unlink()
    assert sl.pretrain(minute, clips, run, progress=False).step == 12


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(clips, tmp_path, minute):
    config = minute.replace(optimizer="sgd", learning_rate=1e12, schedule="constant", warmup=0.0, steps=50)
    parts = r"total = \S+, instance = \S+, cluster = \S+, entropy = \S+"
    with pytest.raises(
        FloatingPointError, match=rf"Step \d+: ({parts}|the weights are not finite)\. .*Lower learning_rate"
    ) as ended:
        sl.pretrain(
            config, clips, tmp_path / "run", progress=False, checkpoint_seconds=0.0
        )  # after every step
    step, state, _ = load_checkpoint(tmp_path / "run" / "checkpoints")
    failed = int(re.match(r"Step (\d+)", str(ended.value))[1])
    assert 1 <= failed - step <= 2
    assert f"The last good state, of step {step}, is in {tmp_path / 'run' / 'checkpoints'}" in str(
        ended.value
    )
    assert all(torch.isfinite(t).all() for t in state.values() if t.is_floating_point())


def test_a_checkpoint_tells_what_it_was_made_with_and_a_run_that_goes_on_otherwise_says_so(
    clips, tmp_path, minute
):
    one = torch.get_num_threads()

    def train_until(step):
        stop = threading.Event()
        sl.pretrain(
            minute,
            clips,
            tmp_path,
            progress=False,
            stop=stop,
            on_step=lambda m: m["step"] == step and stop.set(),
        )

    train_until(3)
    about = load_checkpoint(tmp_path / "checkpoints").about
    assert sl.config.Config().replace(**about["config"]) == minute
    assert about["made_with"]["PyTorch"] == torch.__version__
    assert (about["made_with"]["processes"], about["made_with"]["precision"]) == (1, minute.precision)
    train_until(5)  # the same means: no warning, which would be an error here
    torch.set_num_threads(one + 1)
    try:
        with pytest.warns(UserWarning, match=rf"goes on otherwise .*\(threads: {one} then, {one + 1} now\)"):
            train_until(7)
        train_until(12)  # the last
    finally:
        torch.set_num_threads(one)
    train_until(12)  # nothing is left to go on with


def test_order_visits_every_clip_once_a_pass():
    seen = torch.cat([clip_order(10, 4, seed=3, step=step) for step in range(5)])
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert torch.equal(clip_order(10, 4, 3, 2), seen[8:12])


def test_random_numbers_are_a_function_of_seed_step_and_purpose():
    draws = {
        (seed, step, purpose): torch.rand(1, generator=generator(seed, step, purpose)).item()
        for seed in (0, 1)
        for step in (0, 1)
        for purpose in ("a", "b")
    }
    assert len(set(draws.values())) == 8
    assert draws[1, 1, "b"] == torch.rand(1, generator=generator(1, 1, "b")).item()


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rate(minute, schedule):
    config = minute.replace(learning_rate=1.0, warmup=0.1, steps=100, schedule=schedule)
    rates = [loop.learning_rate(config, step) for step in range(100)]
    assert rates[:11] == sorted(set(rates[:11]))  # rising
    assert 0 < rates[0] < 0.1
    assert rates[10] == 1.0
    assert rates[-1] == (1.0 if schedule == "constant" else pytest.approx(0.0, abs=1e-3))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler (g++)")
def test_compiled_networks_learn_what_the_others_do(clips, tmp_path, monkeypatch, minute):
    """`--compile` is for CUDA, where test_devices.py compares whole runs; what is compiled is the same here."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    losses = []
    for compile in (False, True):
        run = loop.Training(minute, clips, tmp_path / str(compile), torch.device("cpu"), compile)
        run.model.train()
        losses.append([run.one_step()["total"] for _ in range(4)])
    assert run.model.student._compiled_call_impl and run.model.teacher._compiled_call_impl
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_loading_and_comparing_leaves_the_random_numbers_of_gpus_alone(tones, tmp_path, minute, monkeypatch):
    sl.pretrain(minute, tones, tmp_path, steps=1, progress=False)
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    trained = sl.load(tmp_path)
    untrained(trained)
    untrained_encoder(trained.encoder)
    sl.pretrain(minute, tones, tmp_path / "other", steps=1, progress=False)
    assert seeded == []


@pytest.mark.parametrize("drop", ["rank", "instance", "both"])
def test_a_run_of_one_panel_or_none_has_a_figure(tmp_path, drop):
    gone = {"rank", "instance"} if drop == "both" else {drop}
    line = {"step": 1, "total": 2.0, "instance": 2.0, "rank": 3.0}
    lines = [{**line, "step": step} for step in (1, 2)]
    text = "".join(json.dumps({k: v for k, v in line.items() if k not in gone}) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    (tmp_path / "config.json").write_text(
        json.dumps({"config": {"method": "moco"}})
    )  # as of the first edition
    (axes,) = curves.curves(tmp_path).axes
    assert list(axes.lines[0].get_xdata()) == [1, 2]
    (tmp_path / "metrics.jsonl").write_text("")
    assert len(curves.curves(tmp_path).axes) == 2


def test_no_figure_ends_a_run(clips, tmp_path, minute, monkeypatch):
    def broken(run):
        raise RuntimeError("no fonts are there")

    monkeypatch.setattr(pretrain, "curves", SimpleNamespace(curves=broken))
    with pytest.warns(
        UserWarning, match=r"curves.png could not be drawn \(no fonts are there\).*curves.curves"
    ):
        assert sl.pretrain(minute, clips, tmp_path, steps=2, progress=False).step == 2
    assert sl.load(tmp_path).step == 2


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("changes", "panels"),
    [
        ({"instance_weight": 0.0}, ["cluster loss", "clusters", "embedding rank"]),
        ({"cluster_weight": 0.0}, ["instance loss", "embedding rank"]),
        ({"entropy_weight": 0.0}, ["instance loss", "cluster loss", "clusters", "embedding rank"]),
        ({"symmetric": False}, ["instance loss", "cluster loss", "clusters", "embedding rank"]),
        (
            {"method": "delores_m", "symmetric": False},
            ["instance loss", "decorrelation loss", "embedding rank"],
        ),
    ],
    ids=str,
)
def test_runs_of_fewer_terms_are_noted_drawn_and_judged(clips, tmp_path, minute, changes, panels):
    sl.pretrain(minute.replace(**changes), clips, tmp_path, steps=2, progress=False)
    lines = read_metrics(tmp_path)
    assert all(np.isfinite(value) for line in lines for value in line.values())
    assert {"total", "rank", "alignment", "uniformity", "teacher_pace"} <= lines[-1].keys()
    assert [axes.get_title() for axes in curves.curves(tmp_path).axes] == panels
    assert (tmp_path / "curves.png").exists()
    stop = {name for name, value in changes.items() if value == 0.0}
    assert not {name.removesuffix("_weight") for name in stop} & lines[-1].keys()


def test_alignment_of_one_direction_is_of_student_and_teacher(clips, tmp_path, minute):
    run = loop.Training(minute.replace(symmetric=False), clips, tmp_path, torch.device("cpu"))
    run.model.train()
    said, real = [], run.model.step
    run.model.step = lambda *given: said.append(real(*given)) or said[-1]
    noted = run.one_step()
    _, (s1, _, _, t2) = said[0]
    assert noted["alignment"] == health.alignment(t2.key, s1.key)
    assert noted["uniformity"] == health.uniformity(t2.key)
    assert noted["rank"] == health.rank_me(t2.embedding)


def test_checkpoints_of_many_digits_are_found_in_order(tmp_path):
    steps = (99_999_998, 99_999_999, 100_000_000, 2_000_000_000)
    for step in steps:
        save_checkpoint(tmp_path, step, {"x": torch.tensor(step)})
    assert load_checkpoint(tmp_path).step == newest_step(tmp_path) == steps[-1]
    assert len(list(tmp_path.iterdir())) == 2


def test_snapshots_of_many_digits_are_in_order(clips, tmp_path, minute):
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "timings.jsonl").touch()
    for step in (100_000_000, 99_999_999):
        path = tmp_path / "snapshots" / f"step-{step:08d}.safetensors"
        save_weights(path, sl.SLICER(minute).student, None, minute, step)
    found = sl.lape.learning_curve(tmp_path, clips)
    assert found["step"].tolist() == [99_999_999, 100_000_000]
