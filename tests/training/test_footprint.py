"""A batch that cannot fit is refused in words, and so is memory that runs out after all."""

import subprocess
import sys
import threading

import pytest
import torch

import slicer_lite as sl
from slicer_lite.base import free_memory
from slicer_lite.base.device import computes_in_bf16
from slicer_lite.base.randomness import seeded
from slicer_lite.cli import main
from slicer_lite.method.slicer import SLICER
from slicer_lite.training import footprint
from slicer_lite.training.loop import Training

CPU = torch.device("cpu")

# Peak memory of two steps beyond what the process had before, in bytes, beside the estimate.
CHILD = """
import resource, sys, numpy as np, torch
from pathlib import Path
import slicer_lite as sl
from slicer_lite.training import footprint
from slicer_lite.method.slicer import SLICER
from slicer_lite.training.loop import Training

def two_steps(config, folder):
    training = Training(config, clips, Path(folder), torch.device("cpu"))
    training.model.train()
    training.one_step()
    training.one_step()

def peak():
    if Path("/proc/self/status").exists():  # getrusage's peak begins with that of the process that started this one
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

torch.set_num_threads(1)
config = sl.preset(sys.argv[1], batch_size=int(sys.argv[2]), precision=sys.argv[3])
clips = sl.Clips.from_waveforms(np.random.default_rng(0).uniform(-0.3, 0.3, (64, 16_000)))
two_steps(config.replace(channels=2, dim=4, queue=4, mix_memory=2, batch_size=2), sys.argv[4])  # loads libraries
before = peak()
two_steps(config, sys.argv[4])
estimate = footprint.estimate(config, torch.device("cpu"))
print(estimate.of(config.batch_size), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read from POSIX's getrusage")
@pytest.mark.parametrize(("preset", "batch", "precision"), [("tiny", 64, "fp32"), ("small", 32, "bf16")])
def test_the_estimate_is_near_the_measured_peak(tmp_path, preset, batch, precision):
    if precision == "bf16" and not computes_in_bf16(CPU):
        pytest.skip("a CPU without instructions for bf16 emulates it, and takes a quarter more memory")
    arguments = [preset, str(batch), precision, str(tmp_path)]

    def measured():
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, timeout=300, check=True
        )
        return [*map(int, done.stdout.split())]

    # The lower of two: what the system adds by itself, such as huge pages, is no part of a step.
    (estimate, peak), (_, again) = measured(), measured()
    peak = min(peak, again)
    assert estimate == pytest.approx(peak, rel=0.2)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_what_is_held_is_counted_to_the_byte(tones, tmp_path, minute, optimizer):
    config = minute.replace(optimizer=optimizer)
    training = Training(config, sl.load_clips(tones, progress=False), tmp_path, CPU)
    training.model.train()
    training.one_step()
    model = training.model
    states = [s for state in training.optimizer.state.values() for s in state.values() if s.numel() > 1]
    tensors = [
        *model.parameters(),
        *model.student.parameters(),
        *model.buffers(),
        *states,
    ]  # weights, gradients, …
    assert footprint._held(config) == sum(t.nbytes for t in [*tensors, training.views.mixer.memory])


def test_the_estimate_grows_with_the_batch_and_disturbs_nothing(minute):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    need = footprint.estimate(minute, CPU)
    assert torch.equal(torch.rand(2), expected)
    assert need.of(8) - need.of(4) == 4 * need.clip
    wider = minute.replace(channels=8)
    assert 1.5 < footprint.estimate(wider, CPU).clip / need.clip < 2


def test_a_batch_that_cannot_fit_is_refused_before_anything_is_written(tones, tmp_path, minute, monkeypatch):
    need = footprint.estimate(minute, CPU)
    monkeypatch.setattr(footprint, "available", lambda device: need.of(5) + 1)
    with pytest.raises(
        ValueError, match=r"batch_size = 8 needs about .* GB .* free on cpu. Lower batch_size .* to about 5"
    ):
        sl.pretrain(minute, tones, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    sl.pretrain(minute.replace(batch_size=5), tones, tmp_path / "run", steps=1, progress=False)


@pytest.mark.parametrize("changes", [{"queue": 10**13}, {"dim": 10**7}, {"mix_memory": 10**11}])
def test_absurd_sizes_are_refused_without_trying(tones, tmp_path, minute, changes):
    with pytest.raises(ValueError, match=r"Weights, optimiser, queue and memory need about [\d.]+ GB"):
        sl.pretrain(minute.replace(**changes), tones, tmp_path / "run", progress=False)


def test_without_psutil_nothing_is_refused(minute, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert free_memory.available(CPU) is None
    footprint.check(minute.replace(dim=10**7), CPU)


def test_processes_on_one_machine_share_its_memory(monkeypatch):
    alone = free_memory.available(CPU)
    monkeypatch.setattr("slicer_lite.base.distributed.size_here", lambda: 4)
    assert free_memory.available(CPU) == pytest.approx(alone / 4, rel=0.2)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_explained_and_the_run_goes_on_later(
    tones, tmp_path, capsys, monkeypatch, error
):
    real, options = (
        SLICER.step,
        "--channels 4 --dim 16 --clusters 4 --queue 64 --mix-memory 32 --batch-size 8",
    )
    command = [
        "pretrain",
        "--data",
        str(tones),
        "--out",
        str(tmp_path / "run"),
        *options.split(),
        "--steps",
        "3",
    ]

    def full(model, *arguments):
        if model.queued > 8:
            raise error
        return real(model, *arguments)

    monkeypatch.setattr(SLICER, "step", full)
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("Error: The memory of cpu is full: batch_size = 8 does not fit")
    monkeypatch.undo()
    main(command)


def test_other_errors_are_left_alone(minute):
    with pytest.raises(RuntimeError, match="shapes"), footprint.explained(minute, CPU):
        raise RuntimeError("shapes do not match")


def groups(root, own, **files):
    """A fake `/` with a `/proc/self/cgroup`, and control groups with such files under their folders."""
    for name, content in {"proc/self/cgroup": own, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


UNLIMITED = {"max": "max\n", "a number that means none": "9223372036854771712\n"}
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize("none", UNLIMITED)
def test_without_a_limit_of_a_container_there_is_none(tmp_path, none):
    assert free_memory._left_by_groups(tmp_path) is None  # no Linux
    groups(
        tmp_path,
        "5:cpu:/\n4:memory:/a\n0::/a\n",
        **{f"{V2}/a/memory.max": UNLIMITED[none], f"{V2}/a/memory.current": "5"},
        **{f"{V1}/a/memory.limit_in_bytes": UNLIMITED[none], f"{V1}/a/memory.usage_in_bytes": "5"},
    )
    assert free_memory._left_by_groups(tmp_path) is None


@pytest.mark.parametrize("mount", [V2, f"{V2}/unified"])
def test_a_containers_limit_is_known(tmp_path, mount):
    files = {
        "memory.max": "1000\n",
        "memory.current": "700\n",
        # What is kept of files, without what lies in shared memory, makes room where it is needed.
        "memory.stat": "anon 400\nfile 300\ninactive_file 150\nactive_file 50\nshmem 100\n",
    }
    groups(tmp_path, "0::/\n", **{f"{mount}/{name}": content for name, content in files.items()})
    assert free_memory._left_by_groups(tmp_path) == 1000 - (700 - 200)


def test_the_narrowest_of_nested_groups_counts(tmp_path):
    levels = {"": ("900", "100"), "batch/": ("600", "200"), "batch/job/": ("max", "50"), "else/": ("1", "1")}
    files = {}
    for level, (limit, used) in levels.items():
        files |= {f"{V2}/{level}memory.max": limit, f"{V2}/{level}memory.current": used}
    groups(tmp_path, "0::/batch/job\n", **files)
    assert free_memory._left_by_groups(tmp_path) == 400


def test_a_containers_limit_in_version_1_is_known_also_where_its_path_is_the_hosts(tmp_path):
    stat = "inactive_file 1\nactive_file 1\ntotal_inactive_file 20\ntotal_active_file 10\n"
    files = {"memory.limit_in_bytes": "1000", "memory.usage_in_bytes": "700", "memory.stat": stat}
    groups(
        tmp_path,
        "7:cpu,cpuacct:/x\n6:hugetlb,memory:/docker/0123\n1:name=systemd:/docker/0123\n",
        **{f"{V1}/{name}": content for name, content in files.items()},
    )
    assert free_memory._left_by_groups(tmp_path) == 1000 - (700 - 30)


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path):
    groups(tmp_path, "0::/\n", **{f"{V2}/memory.max": "10", f"{V2}/memory.current": "12"})
    assert free_memory._left_by_groups(tmp_path) == 0


def test_a_batch_that_a_container_has_no_room_for_is_refused(minute, monkeypatch):
    need = footprint.estimate(minute, CPU)
    monkeypatch.setattr(free_memory, "_left_by_groups", lambda: need.of(5) + 1)
    assert free_memory.available(CPU) == need.of(5) + 1
    with pytest.raises(ValueError, match=r"batch_size = 8 needs about .* Lower batch_size .* to about 5"):
        footprint.check(minute, CPU)
    monkeypatch.setattr(free_memory, "_left_by_groups", lambda: 2**60)
    assert free_memory.available(CPU) < 2**60


@pytest.mark.parametrize(("batch", "sound", "stays"), [(8, 1000, True), (8, 1001, False), (7, 1001, True)])
def test_sound_stays_on_a_gpu_beside_a_step_only(minute, monkeypatch, batch, sound, stays):
    need = footprint.estimate(minute, CPU)
    monkeypatch.setattr(footprint, "available", lambda device: need.of(8) + 1000)
    spare = footprint.check(minute.replace(batch_size=batch), CPU)
    assert footprint.has_room_for_sound(CPU, sound, spare) == stays
    monkeypatch.setattr(footprint, "available", lambda device: 100 * need.of(8))
    spare = footprint.check(minute, CPU)
    assert footprint.has_room_for_sound(CPU, 24 * need.of(8), spare)
    assert not footprint.has_room_for_sound(CPU, 25 * need.of(8), spare)
    monkeypatch.setattr(footprint, "available", lambda device: None)
    assert not footprint.has_room_for_sound(CPU, 1, footprint.check(minute, CPU))


def test_an_estimate_does_not_change_what_another_thread_draws(minute, monkeypatch):
    inside, over, real = threading.Event(), threading.Event(), footprint._kept

    def kept(*arguments):
        inside.set()
        over.wait(10)
        return real(*arguments)

    def draw(meanwhile):
        with seeded(1):
            return [torch.rand(1).item(), meanwhile(), torch.rand(1).item()][::2]

    monkeypatch.setattr(footprint, "_kept", kept)
    other = threading.Thread(target=footprint.estimate, args=(minute, CPU))
    disturbed = draw(lambda: (other.start(), inside.wait(0.5)))
    over.set()
    other.join()
    assert disturbed == draw(lambda: None)
