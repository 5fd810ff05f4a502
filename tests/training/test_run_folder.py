"""What a run notes of its steps: once each, whatever happened, also for TensorBoard."""

import errno
import json
import os
import threading
from pathlib import Path

import pytest
import torch

import slicer_lite as sl
from slicer_lite.cli import main
from slicer_lite.training.run_folder import (
    METRICS,
    TIMINGS,
    Log,
    claim,
    locked,
    made_with,
    make,
    read_metrics,
)


def noted(run, steps, **options):
    """A log of the given steps, as a run of a few seconds leaves it."""
    with Log(run, steps[0] - 1, **options) as log:
        for step in steps:
            log.write({"step": step, "total": float(step)}, {"seconds": 0.5})


def steps_in(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_steps_that_are_done_again_are_noted_once(tmp_path):
    noted(tmp_path, range(1, 8))
    for name in (METRICS, TIMINGS):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 8, "to')  # what a crash leaves
    noted(tmp_path, range(5, 11))
    assert steps_in(tmp_path / METRICS) == steps_in(tmp_path / TIMINGS) == list(range(1, 11))


def test_nothing_that_depends_on_the_clock_is_among_the_metrics(tmp_path):
    noted(tmp_path, [1])
    assert read_metrics(tmp_path) == [{"step": 1, "total": 1.0}]
    assert json.loads((tmp_path / TIMINGS).read_text()) == {"step": 1, "seconds": 0.5}


def test_a_folder_without_metrics_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics.jsonl does not exist: is .* a run folder"):
        read_metrics(tmp_path)


def shown(run):
    """What TensorBoard shows of a run: for each curve its steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    curves = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
    return {name: {point.step: point.value for point in points} for name, points in curves.items()}, {
        name: [point.step for point in points] for name, points in curves.items()
    }


def test_tensorboard_shows_every_step_once_however_the_run_was_broken_off(tones, tmp_path, minute):
    run, clips = tmp_path / "run", sl.load_clips(tones, progress=False)

    def train_until(step, tensorboard, crash=False):
        stop = threading.Event()

        def at(metrics):
            if metrics["step"] == step:
                stop.set()
                if crash:
                    raise InterruptedError  # steps 7 to 9 are noted, and nothing was saved since step 6

        sl.pretrain(minute, clips, run, progress=False, on_step=at, stop=stop, tensorboard=tensorboard)

    train_until(4, tensorboard=True)
    train_until(6, tensorboard=False)
    with pytest.raises(InterruptedError):
        train_until(9, tensorboard=True, crash=True)
    train_until(12, tensorboard=True)
    values, steps = shown(run)
    lines = read_metrics(run)
    assert steps["total"] == [line["step"] for line in lines] == list(range(1, 13))
    for name in lines[-1].keys() - {"step"}:
        assert values[name] == pytest.approx({line["step"]: line[name] for line in lines if name in line})
    assert values.keys() == lines[-1].keys() - {"step"}


def test_without_tensorboard_the_remedy_is_named_before_anything_is_written(
    tones, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "--data", str(tones), "--out", str(tmp_path / "run"), "--tensorboard"])
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("Error: TensorBoard is not installed: pip install 'slicer-lite[tensorboard]'")
    assert not (tmp_path / "run").exists()


def test_what_several_processes_claim_is_written_once(tones, tmp_path, minute):
    clips = sl.load_clips(tones, progress=False)
    means = made_with(minute, torch.device("cpu"))
    claim(tmp_path, minute, clips, means)
    before = (tmp_path / "config.json").stat()
    claim(tmp_path, minute, clips, means)
    assert (tmp_path / "config.json").stat().st_ino == before.st_ino  # a replaced file is another one


def test_a_damaged_line_is_named_and_costs_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"ste\n{"step": 3}\n{"step": 4')
    with pytest.warns(UserWarning, match=r"metrics\.jsonl, line 2 is damaged"):
        assert [line["step"] for line in read_metrics(tmp_path)] == [1, 3]
    with pytest.warns(UserWarning, match="line 2"), Log(tmp_path, step=3) as log:
        log.write({"step": 4}, {})
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 3, 4]


def test_a_folder_that_cannot_be_made_is_named_with_a_remedy(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match=r"run cannot be made \(a file has that name\): choose another"):
        make(tmp_path / "run")


UNFINISHED = (
    ".config.json.0a1b2c3d.unfinished",
    ".weights.safetensors.0a1b2c3d.unfinished",
    "checkpoints/.step-00000003-ab.safetensors.0a1b2c3d.unfinished",
    "snapshots/.step-00000002.safetensors.0a1b2c3d.unfinished",
)


def left_half_written(run):
    for name in UNFINISHED:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("half")


def test_a_folder_of_runs_is_refused_and_none_of_their_files_swept(tones, tmp_path, minute, monkeypatch):
    left_half_written(tmp_path / "other")  # which another process is writing just now
    monkeypatch.chdir(tmp_path)
    for folder in (".", tmp_path):
        with pytest.raises(ValueError, match=r"holds other things \(other, …\) and no config.json"):
            sl.pretrain(minute, tones, folder, steps=1, progress=False)
    assert all((tmp_path / "other" / name).exists() for name in UNFINISHED)


def test_a_run_sweeps_its_own_leavings_and_nobody_elses(tones, tmp_path, minute):
    sl.pretrain(minute, tones, tmp_path, steps=1, progress=False)
    left_half_written(tmp_path)
    left_half_written(tmp_path / "other")
    results = tmp_path / ".probe.json.0a1b2c3d.unfinished"  # of a probe that is just being written here
    results.write_text("half")
    with pytest.raises(ValueError, match="holds another run"):
        sl.pretrain(minute.replace(temperature=0.3), tones, tmp_path, steps=1, progress=False)
    assert all((tmp_path / name).exists() for name in UNFINISHED)
    sl.pretrain(minute, tones, tmp_path, steps=1, progress=False)
    assert not any((tmp_path / name).exists() for name in UNFINISHED)
    assert all((tmp_path / "other" / name).exists() for name in UNFINISHED)
    assert results.exists()


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints", "lost+found"]
)
def test_what_systems_leave_in_a_folder_is_no_obstacle(tones, tmp_path, minute, name):
    (tmp_path / name).write_text("of the system")
    clips = sl.load_clips(tones, progress=False)
    claim(tmp_path, minute, clips, {})
    claim(tmp_path, minute.replace(temperature=0.3), clips, {})  # nothing has been trained yet
    assert (tmp_path / name).read_text() == "of the system"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_that_refuses_locks_is_explained(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(OSError, match=rf"{tmp_path.name} refuses locks \(.*choose a folder on a local disk"),
        locked(tmp_path),
    ):
        pass


def test_a_disk_that_is_read_only_or_full_is_explained(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with (
        pytest.raises(OSError, match=r"cannot be written to \(Read-only file system\): choose another"),
        locked(Path(tmp_path)),
    ):
        pass
