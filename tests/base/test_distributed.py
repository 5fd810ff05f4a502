"""Several processes compute what one would on the joined batch."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch

import slicer_lite as sl
from slicer_lite.base import distributed
from slicer_lite.cli import main
from slicer_lite.method.registry import METHODS
from slicer_lite.method.views import TwoViews
from slicer_lite.training import pretrain, run_folder
from slicer_lite.training.checkpoint import with_prefix
from slicer_lite.training.loop import Training

CPU = torch.device("cpu")
STEPS = 5


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def together(spawn):
    """Begin `target(*arguments)` in as many processes as torchrun would start."""

    def together(processes, target, *arguments):
        port = str(free_port())
        return [
            spawn(as_torchrun_does, rank, processes, port, target, *arguments) for rank in range(processes)
        ]

    return together


def as_torchrun_does(rank, processes, port, target, *arguments):
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    if processes > 1:
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    target(*arguments)


def few_steps(data, out, mode, method, steps):
    """Whole steps without dropout; the first process writes what came out."""
    config = sl.preset(
        "tiny", channels=4, dim=16, clusters=4, queue=40, mix_memory=24, batch_size=8, dropout=0.0,
        precision="fp32", teacher_momentum=0.9, optimizer="sgd", learning_rate=0.05, steps=5, method=method,
    )  # fmt: skip
    clips = sl.load_clips(data, progress=False).for_pretraining()
    with distributed.processes(CPU) as device:
        out.mkdir(exist_ok=True)
        training = Training(config, clips, out, device)
        training.join()
        training.model.train()
        for module in training.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and mode == "eval":
                module.eval()
        metrics = [training.one_step() for _ in range(steps)]
        if distributed.rank() == 0:
            training.save()
            state = {**training.model.state_dict(), **with_prefix("views", training.views.state_dict())}
            torch.save({"state": state, "metrics": metrics}, out / "result.pt")


@pytest.fixture
def some_steps(together, tones):
    """What a few steps of so many processes give: their metrics, and the state after the last."""

    def some_steps(processes, out, mode, method="slicer", steps=STEPS):
        children = together(processes, few_steps, tones, out, mode, method, steps)
        for child in children:
            child.join(300)
        assert [child.exitcode for child in children] == [0] * processes
        return torch.load(out / "result.pt", weights_only=True)

    return some_steps


@pytest.mark.slow
def test_two_and_four_processes_compute_what_one_does(some_steps, tmp_path):
    one = some_steps(1, tmp_path / "1", "eval")
    for processes in (2, 4):
        several = some_steps(processes, tmp_path / str(processes), "eval")
        for mine, theirs in zip(several["metrics"], one["metrics"], strict=True):
            for name in ("total", "instance", "cluster", "entropy"):
                assert mine[name] == pytest.approx(theirs[name], abs=1e-5)
        for name, value in several["state"].items():
            torch.testing.assert_close(value, one["state"][name], rtol=0, atol=1e-5, msg=name)


@pytest.mark.slow
def test_two_processes_decorrelate_as_one_does(some_steps, tmp_path):
    one, two = (some_steps(n, tmp_path / str(n), "eval", "delores_m") for n in (1, 2))
    for mine, theirs in zip(two["metrics"], one["metrics"], strict=True):
        assert mine["decorrelation"] == pytest.approx(theirs["decorrelation"], rel=1e-4)
    for name, value in two["state"].items():
        torch.testing.assert_close(value, one["state"][name], rtol=0, atol=1e-5, msg=name)


@pytest.mark.slow
def test_going_on_with_another_number_of_processes_changes_nothing(some_steps, tmp_path):
    one = some_steps(1, tmp_path / "1", "eval")
    some_steps(2, tmp_path / "changing", "eval", steps=2)
    some_steps(1, tmp_path / "changing", "eval", steps=1)
    last = some_steps(2, tmp_path / "changing", "eval", steps=2)
    for mine, theirs in zip(last["metrics"], one["metrics"][3:], strict=True):
        assert mine["total"] == pytest.approx(theirs["total"], abs=1e-5)
    for name, value in last["state"].items():
        torch.testing.assert_close(value, one["state"][name], rtol=0, atol=1e-5, msg=name)


@pytest.mark.slow
def test_batch_norms_of_two_processes_on_cpu_depart_and_by_how_much(some_steps, tmp_path):
    """Each process normalises by its own half of the batch, as README says: close, and not the same."""
    one = some_steps(1, tmp_path / "1", "train")["metrics"]
    two = some_steps(2, tmp_path / "2", "train")["metrics"]
    assert two[0]["total"] == pytest.approx(one[0]["total"], rel=0.05)
    assert two[0]["total"] != pytest.approx(one[0]["total"], abs=1e-5)


OPTIONS = "--channels 4 --dim 16 --clusters 4 --queue 64 --mix-memory 32 --batch-size 8 --precision fp32"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_torchrun_trains_dies_with_a_reason_and_resumes_with_another_number(capsys, tones, tmp_path):
    run = tmp_path / "run"
    command = ["-m", "slicer_lite", "pretrain", "--data", str(tones), "--out", str(run), *OPTIONS.split()]
    command += ["--steps", "100", "--device", "cpu"]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        f"--master-port={free_port()}",
    ]
    parent = subprocess.Popen([*torchrun, *command], stderr=subprocess.PIPE, text=True)
    while not list(run.glob("checkpoints/step-*")):
        assert parent.poll() is None, parent.stderr.read()
        time.sleep(0.1)
    victim = children_of(parent.pid)[-1]
    os.kill(victim, 9)
    begun = time.monotonic()
    said = parent.communicate(timeout=60)[1]
    assert time.monotonic() - begun < 60
    assert parent.returncode != 0
    assert "SIGKILL" in said
    before = max(int(path.name[5:13]) for path in run.glob("checkpoints/step-*"))
    assert 0 < before < 100
    main(command[2:])
    assert "processes: 2 then, 1 now" in capsys.readouterr().err
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 101))
    assert sl.load(run).step == 100


def failing(arguments, folder):
    """The last process finds its disk full at the third step."""
    real, last = Training.one_step, os.environ["RANK"] == "1"

    def one_step(training):
        if last and training.step == 2:
            raise OSError("No space left on device: 'igloo'.")  # a name in which gloo's own is hidden
        return real(training)

    Training.one_step = one_step
    os.environ["TORCHELASTIC_ERROR_FILE"] = str(folder / f"error {os.environ['RANK']}")  # as torchrun does
    with (folder / f"said {os.environ['RANK']}").open("w") as said, redirect_stderr(said):
        main(arguments)


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_others_and_is_the_reason_that_is_shown(together, tones, tmp_path):
    command = ["pretrain", "--data", str(tones), "--out", str(tmp_path / "run"), *OPTIONS.split()]
    one, other = together(2, failing, [*command, "--steps", "1000000", "--device", "cpu"], tmp_path)
    other.join(300)
    one.join(60)  # within a minute
    assert (one.exitcode, other.exitcode) == (1, 1)
    first, last = ((tmp_path / f"said {rank}").read_text() for rank in (0, 1))
    assert last.splitlines()[-1] == "Error: No space left on device: 'igloo'."
    assert first.splitlines()[-1].startswith(
        "Error: Another process of this run has ended or does not answer"
    )
    assert "Traceback" not in first + last
    # What torchrun repeats at the end as the root cause.
    assert "OSError: No space left on device: 'igloo'." in (tmp_path / "error 1").read_text()
    assert not (tmp_path / "error 0").exists()


def children_of(pid):
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    if not tasks.exists():
        pytest.skip("this system does not list a process's children")
    return [int(child) for child in tasks.read_text().split()]


def test_a_batch_that_processes_cannot_share_is_refused(tones, tmp_path, minute, monkeypatch):
    monkeypatch.setattr("slicer_lite.base.distributed.size", lambda: 3)
    with pytest.raises(
        ValueError, match="batch_size = 8 cannot be shared by 3 processes: use a multiple of 3"
    ):
        pretrain._check(minute, sl.load_clips(tones, progress=False))


def folder_of_its_own(data, folder):
    """As on two machines that share no disk; each process notes why it ended."""
    try:
        sl.pretrain(small_steps(), data, folder / os.environ["RANK"], device="cpu", progress=False)
    except (ValueError, ConnectionError) as error:
        (folder / f"said {os.environ['RANK']}").write_text(str(error))


@pytest.mark.slow
def test_machines_that_do_not_share_the_run_folder_are_told_before_the_first_step(together, tones, tmp_path):
    for child in together(2, folder_of_its_own, tones, tmp_path):
        child.join(120)
    assert "must lie on a disk that all machines share" in (tmp_path / "said 1").read_text()
    assert "Another process of this run has ended" in (tmp_path / "said 0").read_text()
    assert not (tmp_path / "0" / "metrics.jsonl").exists()


def small_steps(**changes):
    return sl.preset(
        "tiny", channels=4, dim=16, clusters=4, queue=64, mix_memory=32, batch_size=8, steps=2,
        precision="fp32", optimizer="adamw", learning_rate=1e-3, dropout=0.3, **changes,
    )  # fmt: skip


def several_runs(data, folder):
    """Three runs one after the other, as a loop over seeds has them."""
    for seed in range(3):
        sl.pretrain(small_steps(seed=seed), data, folder / str(seed), device="cpu", progress=False)


@pytest.mark.slow
def test_one_run_after_the_other_in_the_same_processes(together, tones, tmp_path):
    for child in (processes := together(2, several_runs, tones, tmp_path)):
        child.join(120)
    assert [child.exitcode for child in processes] == [0, 0]
    assert [sl.load(tmp_path / str(seed)).step for seed in range(3)] == [2, 2, 2]


class Recorded:
    """Stands for `torch.distributed`'s calls, and notes who waits for whom, and how long."""

    def __init__(self, monkeypatch, rank):
        self.groups, self.waits = {}, []
        for name, value in {
            "init_process_group": lambda backend, **options: self.begin("default", backend, options),
            "new_group": lambda backend, **options: self.begin("other", backend, options),
            "barrier": lambda group=None: self.waits.append(group or "default"),
            "destroy_process_group": self.groups.clear,
            "PrefixStore": lambda name, store: store,
        }.items():
            monkeypatch.setattr(distributed.dist, name, value)
        monkeypatch.setattr(distributed, "_meeting_place", lambda: (None, rank, 2))
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "size", lambda: 2 if self.groups else 1)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
        for name in ("RANK", "LOCAL_RANK"):
            monkeypatch.setenv(name, str(rank))

    def begin(self, name, backend, options):
        self.groups[name] = backend, options["timeout"].total_seconds()
        return name


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("device", "backend", "hours"), [("cuda", "nccl", (0, 1)), ("cpu", "gloo", (2, 48))])
def test_gpus_answer_soon_and_decoding_may_take_long(monkeypatch, rank, device, backend, hours):
    noted = Recorded(monkeypatch, rank)
    with distributed.processes(torch.device(device)):
        kind, seconds = noted.groups["default"]
        assert kind == backend and hours[0] < seconds / 3600 <= hours[1]
        kind, seconds = noted.groups["other"]
        assert kind == "gloo" and seconds / 3600 >= 2
        with distributed.first_alone():
            pass
    assert set(noted.waits) == {"other"} and len(noted.waits) == 2


def in_a_job_of_somebody_elses(rank, meeting):
    """Two processes have met for ends of their own; one trains networks there, the other does something else."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    assert (distributed.rank(), distributed.size(), distributed.size_here()) == (0, 1, 1)
    if rank == 0:
        sl.Encoder(channels=4, dim=16).train()(torch.randn(2, 1, 64, 32)).sum().backward()
        config = small_steps()
        views = TwoViews(config, 0.0, 1.0, torch.rand(4, 64))
        for method in METHODS.values():
            pair = views(torch.randn(8, 1, 64, 96), seed=0, step=0)
            method(config).train().loss(*pair)["total"].backward()
        assert not distributed.any_process(False)


def test_networks_do_not_talk_to_processes_that_the_trainer_has_not_joined(spawn, tmp_path):
    children = [spawn(in_a_job_of_somebody_elses, rank, tmp_path / "meeting") for rank in (0, 1)]
    for child in children:
        child.join(120)
        child.kill()
    assert [child.exitcode for child in children] == [0, 0]


def joined_already(data, folder):
    """A program of one's own that has joined the processes, and shares a run among them; it stays joined."""
    torch.distributed.init_process_group("gloo")
    sl.pretrain(small_steps(), data, folder / "run", device="cpu", progress=False)
    torch.distributed.barrier()
    assert distributed.size() == 1
    assert torch.distributed.get_world_size() == 2


@pytest.mark.slow
def test_a_run_takes_the_processes_that_its_caller_has_joined(together, tones, tmp_path):
    for child in (processes := together(2, joined_already, tones, tmp_path)):
        child.join(120)
    assert [child.exitcode for child in processes] == [0, 0]
    assert run_folder.read_lines(tmp_path / "run" / "metrics.jsonl")[-1]["step"] == 2
