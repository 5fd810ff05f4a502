"""How fast pre-training is on a GPU, and what bounds it. Writes results/gpu.json.

    python benchmarks/gpu.py [--parts rate,bounds,precision,batch,accuracy] [--data FOLDER] [--out FILE]

First see that the GPU computes what the CPU does: `pytest tests/test_golden.py tests/test_devices.py`. FOLDER, for
`accuracy`, is a set of labelled recordings with a manifest.csv. `--device cpu` runs the same on a CPU, to try the
script out; `--quick` takes few steps of small batches.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import machine, ratios, seconds, spread
from speed import floor, some_clips
from torch.utils.flop_counter import FlopCounterMode

import slicer_lite as sl
from slicer_lite.config import Config
from slicer_lite.files import write_json
from slicer_lite.lape import learning_curve
from slicer_lite.run_folder import read_metrics
from slicer_lite.train import Training

RESULTS = Path(__file__).parent / "results" / "gpu.json"
EPOCHS, CLIPS = 50, 250_000  # the paper's pre-training


class Bench:
    """What all parts need: the device, and how much to do."""

    def __init__(self, device: str, quick: bool, data: str | None):
        self.device, self.quick, self.data = sl.device.choose_device(device), quick, data
        self.repeats = 3 if quick else 30

    def batch(self, size: int) -> int:
        return 8 if self.quick else size

    def training(self, config: Config, folder: str) -> Training:
        """A run of the paper's model that has been going on for a while: memory and queue are full."""
        run = Training(config, some_clips(1024), Path(folder), self.device)
        run.model.train()
        memory = run.views.mixer.memory
        for _ in range(len(memory) // 2048 + 1):
            run.views.mixer.push(torch.randn(2048, 1, 64, 96, device=self.device))
        run.model.queue.copy_(torch.nn.functional.normalize(torch.randn_like(run.model.queue), dim=1))
        run.model.queue_clip.fill_(10**6)
        return run

    def in_training(self, config: Config, work: Callable[[Training], dict[str, object]]) -> dict[str, object]:
        with tempfile.TemporaryDirectory() as folder:
            return work(self.training(config, folder))


def rate(bench: Bench) -> dict[str, object]:
    """Clips a second of whole training steps from the store, at several batch sizes; the views' share; the floor."""

    def measured(run: Training) -> dict[str, object]:
        size, config = run.config.batch_size, run.config
        view1, view2 = torch.randn(2, size, 1, 64, 96, device=bench.device).unbind(0)
        order = torch.arange(size)

        def views() -> None:
            run.views(run._inputs(order, "window"), config.seed, run.step)

        whole, bare, only = seconds(
            run.one_step, lambda: floor(run.model, view1, view2), views, repeats=bench.repeats, warmups=3
        )
        rates = [size / t for t in whole]
        return {
            "clips a second": spread(rates),
            "floor, clips a second": spread([size / t for t in bare]),
            "step / floor": ratios(bare, whole),
            "views' share of the step": ratios(only, whole),
            f"minutes for {CLIPS:,} clips, {EPOCHS} epochs": EPOCHS * CLIPS / spread(rates)["median"] / 60,
        }

    sizes = [8] if bench.quick else [256, 512, 1024, 2048]
    return {
        f"batch {size}": bench.in_training(sl.preset("paper", batch_size=size), measured) for size in sizes
    }


def bounds(bench: Bench) -> dict[str, object]:
    """The two floors of a step: its arithmetic, and the bytes that it must move; with the profile's main entries."""

    def measured(run: Training) -> dict[str, object]:
        size = run.config.batch_size
        view1, view2 = torch.randn(2, size, 1, 64, 96, device=bench.device).unbind(0)
        with FlopCounterMode(display=False) as counter:
            floor(run.model, view1, view2)
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            floor(run.model, view1, view2)
        ((took,),) = seconds(lambda: floor(run.model, view1, view2), repeats=1, warmups=3)
        with torch.profiler.profile() as profile:
            for _ in range(3):
                run.one_step()
        by_time = sorted(profile.key_averages(), key=lambda entry: -entry.self_device_time_total)[:12]
        return {
            "flop a clip": counter.get_total_flops() / size,
            "achieved flop a second": counter.get_total_flops() / took,
            # Each tensor that the backward pass needs is written once and read once, at the least.
            "bytes a clip, at the least": 2 * sum(kept.values()) / size,
            "achieved bytes a second, at the least": 2 * sum(kept.values()) / took,
            "microseconds a step": {entry.key: entry.self_device_time_total / 3 for entry in by_time},
        }

    return bench.in_training(sl.preset("paper", batch_size=bench.batch(512)), measured)


def precision(bench: Bench) -> dict[str, object]:
    """Loss curves of the same run in fp32 and in bf16, and what torch.compile gives."""
    clips = sl.load_clips("sounds")
    config = sl.preset("tiny", steps=4 if bench.quick else 300, batch_size=bench.batch(256))
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
    if not bench.quick:
        found["compiled / plain floor"] = bench.in_training(sl.preset("paper"), compiled)
    return found


def compiled(run: Training) -> dict[str, object]:
    """Forward and backward of the student and forward of the teacher, compiled against plain, in turns."""
    device = run.device
    view1, view2 = torch.randn(2, run.config.batch_size, 1, 64, 96, device=device).unbind(0)
    plain = run.model.student.encoder.forward, run.model.teacher.encoder.forward
    fast = tuple(torch.compile(forward) for forward in plain)

    def with_forwards(forwards: tuple[Callable[..., torch.Tensor], ...]) -> None:
        run.model.student.encoder.forward, run.model.teacher.encoder.forward = forwards
        floor(run.model, view1, view2)

    slow, quick = seconds(lambda: with_forwards(plain), lambda: with_forwards(fast), repeats=15, warmups=3)
    return {"plain time / compiled time": ratios(slow, quick)}


def batch(bench: Bench) -> dict[str, object]:
    """The largest batch, doubling until the memory is full, and what it takes."""
    largest, peak, size = 0, 0, bench.batch(512)
    while size <= (16 if bench.quick else 2**16):
        try:
            with tempfile.TemporaryDirectory() as folder:
                run = Training(
                    sl.preset("paper", batch_size=size), some_clips(size), Path(folder), bench.device
                )
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


PARTS = {"rate": rate, "bounds": bounds, "precision": precision, "batch": batch, "accuracy": accuracy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--data")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    bench = Bench(arguments.device, arguments.quick, arguments.data)
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name in arguments.parts.split(","):
        found[name] = {**PARTS[name](bench), "machine": machine()}
        print(name, json.dumps(found[name], indent=1))
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
