"""How fast pre-training is on a GPU, and what bounds it. Writes results/gpu.json.

    python benchmarks/gpu.py [--parts rate,ways,whole,bounds,precision,batch,accuracy] [--data FOLDER] [--out FILE]

First see that the GPU computes what the CPU does: `pytest tests/method/test_golden.py tests/base/test_devices.py`.
FOLDER, for `accuracy`, is a set of labelled recordings with a manifest.csv. `--device cpu --out FILE` runs the same
on a CPU, and `--quick --out FILE` takes few steps of small batches, to try the script out.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from measure import RESULTS, measure_parts, parser, ratios, seconds, spread
from speed import fill, floor, some_clips
from torch.utils.flop_counter import FlopCounterMode

import slicer_lite as sl
from slicer_lite.base.device import choose_device
from slicer_lite.config import Config
from slicer_lite.lape import learning_curve
from slicer_lite.training import loop
from slicer_lite.training.cuda_graph import Replayed
from slicer_lite.training.loop import Training
from slicer_lite.training.run_folder import TIMINGS, read_metrics

EPOCHS, CLIPS = 50, 250_000  # the paper's pre-training


class Bench:
    """What all parts need: the device, and how much to do."""

    def __init__(self, device: str, quick: bool, data: str | None):
        self.device, self.quick, self.data = choose_device(device), quick, data
        self.repeats = 3 if quick else 30

    def batch(self, size: int) -> int:
        return 8 if self.quick else size

    def training(self, config: Config, folder: str, compile: bool = False) -> Training:
        """A run of the paper's model that has been going on for a while: memory and queue are full."""
        run = Training(config, some_clips(1024), Path(folder), self.device, compile and not self.quick)
        run.model.train()
        fill(run)
        return run

    def replayed(self, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """As training does it: on a GPU all kernels are asked for at once."""
        return Replayed(work, self.device) if self.device.type == "cuda" else work


def rate(bench: Bench) -> dict[str, object]:
    """Clips a second of whole training steps from the store, at several batch sizes; the views' share; the floor."""
    return {
        f"batch {size}": rate_of(bench, size) for size in ([8] if bench.quick else [256, 512, 1024, 2048])
    }


def rate_of(bench: Bench, size: int) -> dict[str, object]:
    config = sl.preset("paper", batch_size=size)
    with tempfile.TemporaryDirectory() as folder:
        run = bench.training(config, folder, compile=True)
        view1, view2 = torch.randn(2, size, 1, 64, 96, device=bench.device).unbind(0)
        floored = bench.replayed(lambda views: floor(run.model, *views))
        viewed = bench.replayed(lambda batch: run.views.drawn(run.views.inputs(batch.window), batch.draws))
        drawn = run._draw(0)
        whole, bare, only = seconds(
            run.one_step,
            lambda: floored((view1, view2)),
            lambda: viewed(drawn),
            repeats=bench.repeats,
            warmups=5,
        )
    rates = [size / t for t in whole]
    return {
        "clips a second": spread(rates),
        "floor, clips a second": spread([size / t for t in bare]),
        "step / floor": ratios(bare, whole),
        "views' share of the step": ratios(only, whole),
        f"minutes for {CLIPS:,} clips, {EPOCHS} epochs": EPOCHS * CLIPS / spread(rates)["median"] / 60,
    }


def ways(bench: Bench) -> dict[str, object]:
    """Clips a second of whole steps: kernel by kernel, replayed as one CUDA graph, and compiled besides."""
    found = {}
    sizes = {"tiny": 8} if bench.quick else {"tiny": 256, "small": 256, "paper": 512}
    for name, size in sizes.items():
        config = sl.preset(name, batch_size=size)
        with ExitStack() as stack:
            folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(3)]
            with mock.patch.object(loop, "Replayed", lambda work, device: work):
                plain = bench.training(config, folders[0])
            runs = [plain, *(bench.training(config, folders[1 + c], compile=bool(c)) for c in (0, 1))]
            times = seconds(*(run.one_step for run in runs), repeats=bench.repeats, warmups=5)
        kinds = ("kernel by kernel", "replayed", "replayed, compiled")
        found[f"{name}, batch {size}"] = {
            kind: spread([size / t for t in its]) for kind, its in zip(kinds, times, strict=True)
        }
    return found


def whole(bench: Bench) -> dict[str, object]:
    """A whole run of the paper's preset, cut short: books, checkpoints and health included."""
    config = sl.preset("paper", steps=4 if bench.quick else 1500, batch_size=bench.batch(512))
    with tempfile.TemporaryDirectory() as folder:
        sl.pretrain(
            config,
            some_clips(4096),
            folder,
            device=str(bench.device),
            progress=False,
            compile=not bench.quick,
        )
        lines = [json.loads(line) for line in (Path(folder) / TIMINGS).read_text().splitlines()]
    first = lines[min(100, len(lines) // 2)]  # before it, kernels are chosen and compiled
    steps, taken = lines[-1]["step"] - first["step"], lines[-1]["seconds"] - first["seconds"]
    return {
        "steps": steps,
        "clips a second": steps * config.batch_size / taken,
        "seconds of the first 100 steps": first["seconds"],
    }


def bounds(bench: Bench) -> dict[str, object]:
    """The two floors of a step: its arithmetic, and the bytes that it must move; with the profile's main entries."""
    size = bench.batch(512)
    with tempfile.TemporaryDirectory() as folder:
        run = bench.training(sl.preset("paper", batch_size=size), folder)
        view1, view2 = torch.randn(2, size, 1, 64, 96, device=bench.device).unbind(0)
        with FlopCounterMode(display=False) as counter:
            floor(run.model, view1, view2)
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            floor(run.model, view1, view2)
        run = bench.training(sl.preset("paper", batch_size=size), folder, compile=True)
        floored = bench.replayed(lambda views: floor(run.model, *views))
        (times,) = seconds(lambda: floored((view1, view2)), repeats=bench.repeats, warmups=5)
        took = spread(times)["median"]
        for _ in range(5):
            run.one_step()
        with torch.profiler.profile() as profile:
            for _ in range(3):
                run.one_step()
        by_time = sorted(profile.key_averages(), key=lambda entry: -entry.self_device_time_total)[:16]
    found = {
        "flop a clip": counter.get_total_flops() / size,
        "achieved flop a second": counter.get_total_flops() / took,
        # Each tensor that the backward pass needs is written once and read once, at the least.
        "bytes a clip, at the least": 2 * sum(kept.values()) / size,
        "achieved bytes a second, at the least": 2 * sum(kept.values()) / took,
        "microseconds a step": {entry.key[:100]: entry.self_device_time_total / 3 for entry in by_time},
    }
    if bench.device.type == "cuda":
        big = torch.empty(2**31, dtype=torch.uint8, device=bench.device)
        a = torch.randn(8192, 8192, device=bench.device, dtype=torch.bfloat16)
        copies, products = seconds(lambda: big.clone(), lambda: a @ a, repeats=10, warmups=3)
        found["bytes a second of a large copy"] = 2 * len(big) / spread(copies)["median"]
        found["flop a second of a large bf16 product"] = 2 * len(a) ** 3 / spread(products)["median"]
    return found


def precision(bench: Bench) -> dict[str, object]:
    """Loss curves of the same run in fp32 and in bf16."""
    clips = sl.load_clips("sounds") if bench.data is None else sl.load_clips(bench.data)
    config = sl.preset("tiny", steps=4 if bench.quick else 200, batch_size=bench.batch(256))
    found: dict[str, object] = {}
    for name in ("fp32", "bf16"):
        with tempfile.TemporaryDirectory() as folder:
            sl.pretrain(
                config.replace(precision=name), clips, folder, device=str(bench.device), progress=False
            )
            losses = [line["total"] for line in read_metrics(folder)]
        found[f"{name}, losses"] = losses
    differences = np.abs(np.subtract(found["fp32, losses"], found["bf16, losses"]))
    found["mean difference of the last tenth"] = float(differences[-max(len(differences) // 10, 1) :].mean())
    return found


def batch(bench: Bench) -> dict[str, object]:
    """The largest batch, doubling until the memory is full, and what it takes."""
    largest, peak, size = 0, 0, bench.batch(512)
    while size <= (16 if bench.quick else 2**16):
        try:
            with tempfile.TemporaryDirectory() as folder:
                run = Training(sl.preset("paper", batch_size=size), some_clips(), Path(folder), bench.device)
                run.model.train()
                run.one_step()
        except (MemoryError, torch.OutOfMemoryError):
            break
        largest = size
        if bench.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated()
        size *= 2
    return {"largest batch, by doubling": largest, "bytes at its peak": peak or None}


def accuracy(bench: Bench) -> dict[str, object]:
    """Probe accuracy on labelled recordings along a run, against seconds of training."""
    if bench.data is None:
        raise SystemExit("accuracy needs labelled recordings: --data FOLDER, or leave it out of --parts.")
    clips = sl.load_clips(bench.data)
    config = sl.preset("small", steps=4 if bench.quick else 4000)
    with tempfile.TemporaryDirectory() as folder:
        sl.pretrain(config, clips, folder, device=str(bench.device))
        return {"steps": config.steps, "along the run": learning_curve(folder, clips).to_dict("records")}


PARTS = {
    "rate": rate,
    "ways": ways,
    "whole": whole,
    "bounds": bounds,
    "precision": precision,
    "batch": batch,
    "accuracy": accuracy,
}


def main() -> None:
    kept = RESULTS / "gpu.json"
    options = parser(__doc__, parts=",".join(PARTS), data=None, device="cuda", out=kept)
    options.add_argument("--quick", action="store_true")
    arguments = options.parse_args()
    if arguments.out == kept and (arguments.quick or arguments.device == "cpu"):
        options.error(f"give --out FILE: {kept.name} is for whole measurements on a GPU.")
    bench = Bench(arguments.device, arguments.quick, arguments.data)
    measure_parts(
        {name: partial(part, bench) for name, part in PARTS.items()}, arguments.parts, arguments.out
    )


if __name__ == "__main__":
    main()
