"""How fast each part is, and how near its floor. Writes results/speed.json.

    python benchmarks/speed.py [--parts views,kmix,step,training,store,embedding,import,pretraining,run]
        [--data sounds] [--out FILE]

`--data` is for the parts `pretraining` and `run`; results/speed_fp32.json is of a CPU without instructions for bf16.
results/speed_muon.json has these two parts since presets tiny and small take Muon; the others' rates are with AdamW.

Run it on an idle machine. Figures are medians of 3 to 10 repeats, with the smallest and the largest, or single
values; ratios are taken turn by turn. Parts that are not asked for keep the figures that the file has.
"""

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import soundfile
import torch
from measure import RESULTS, measure_parts, parser, ratios, seconds, spread

import slicer_lite as sl
from slicer_lite.audio.store import _write_index
from slicer_lite.audio.table import make_table
from slicer_lite.base.device import autocast, keep_freed_blocks, trains_in_bf16
from slicer_lite.config import SAMPLE_RATE, WINDOW, Config
from slicer_lite.method.kmix import KMix
from slicer_lite.method.slicer import SLICER
from slicer_lite.method.views import TwoViews
from slicer_lite.training.loop import Training

CPU = torch.device("cpu")


def some_clips(count: int = 1024, length: int = 2 * WINDOW) -> sl.Clips:
    rng = np.random.default_rng(0)
    return sl.Clips.from_waveforms([rng.uniform(-0.3, 0.3, length).astype(np.float32) for _ in range(count)])


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def views() -> dict[str, object]:
    """Milliseconds a clip for both views, from the store to the crop, one thread, with a full memory."""
    with one_thread():
        batch, clips, config = 256, some_clips(), sl.preset("tiny")
        both = TwoViews(config, -5.0, 4.0, torch.randn(4, 64))
        both.mixer.push(torch.randn(config.mix_memory, 1, 64, 96))
        rng = np.random.default_rng(0)

        def work() -> None:
            waveform = clips.windows(rng.integers(0, len(clips), batch), rng.integers(0, WINDOW, batch))
            both(both.inputs(waveform), 0, 0)

        waveform = clips.windows(np.arange(batch), np.zeros(batch, int))
        inputs = both.inputs(waveform)
        mixing, boxes = torch.rand(batch, 2), both.crop.boxes(batch)
        parts = {
            "two views": work,
            "store": lambda: clips.windows(
                rng.integers(0, len(clips), batch), rng.integers(0, WINDOW, batch)
            ),
            "log-mel": lambda: both.inputs(waveform),
            "k-mix, one view": lambda: both.mixer(inputs, draws=mixing),
            "crop, one view": lambda: both.crop.apply(inputs, boxes),
            "memory": lambda: both.mixer.push(inputs),
        }
        times = seconds(*parts.values())
        return {
            "milliseconds a clip": {
                name: spread([1000 * t / batch for t in its]) for name, its in zip(parts, times, strict=True)
            },
            "batch": batch,
            "threads": 1,
        }


def kmix() -> dict[str, object]:
    """Milliseconds a clip for one view's k-mix, against the sizes of memory and clusters, one thread."""
    batch = 256
    with one_thread():
        x, draws = torch.randn(batch, 1, 64, 96), torch.rand(batch, 2)
        sizes = {(2048, 4): None, (65_536, 4): None, (2048, 256): None}
        mixers = []
        for memory, clusters in sizes:
            mixer = KMix(torch.randn(clusters, 64), memory=memory)
            for _ in range(memory // 2048):
                mixer.push(torch.randn(2048, 1, 64, 96))
            mixers.append(mixer)
        times = seconds(*[lambda mixer=mixer: mixer(x, draws=draws) for mixer in mixers])
        return {
            "milliseconds a clip": {
                f"memory {memory}, {clusters} clusters": spread([1000 * t / batch for t in its])
                for (memory, clusters), its in zip(sizes, times, strict=True)
            },
            "memory 65536 / 2048": ratios(times[1], times[0]),
            "256 / 4 clusters": ratios(times[2], times[0]),
        }


def floor(model: SLICER, view1: torch.Tensor, view2: torch.Tensor) -> None:
    """Student forward and backward on both views and teacher forward: nothing else."""
    with autocast(model.config, view1.device):
        s1, s2 = model.student(view1), model.student(view2)
        with torch.no_grad():
            model.teacher(view1)
            model.teacher(view2)
    (s1.key.sum() + s2.key.sum() + s1.assignment.sum() + s2.assignment.sum()).backward()
    model.student.zero_grad(set_to_none=True)


def fill(training: Training) -> None:
    """Fill k-mix's memory and the queue of keys, as they are when a run has been going on for a while."""
    mixer, queue = training.views.mixer, training.model.queue
    for _ in range(len(mixer.memory) // 2048 + 1):
        mixer.push(torch.randn(2048, 1, 64, 96, device=queue.device))
    queue.copy_(torch.nn.functional.normalize(torch.randn_like(queue), dim=1))
    training.model.queue_clip.fill_(10**6)


def step(name: str, batch: int, **changes: object) -> dict[str, object]:
    """Clips per second of a whole training step from the store, and of its floor."""
    config: Config = sl.preset(name, batch_size=batch, **changes)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(config, some_clips(), Path(folder), CPU)
        training.model.train()
        fill(training)
        view1, view2 = torch.randn(2, batch, 1, 64, 96).unbind(0)
        repeats = 7 if batch <= 128 else 5
        with keep_freed_blocks(CPU, trains_in_bf16(config, CPU)):  # as `pretrain` does
            whole, bare = seconds(
                training.one_step, lambda: floor(training.model, view1, view2), repeats=repeats, warmups=1
            )
    return {
        "step, clips a second": spread([batch / t for t in whole]),
        "floor, clips a second": spread([batch / t for t in bare]),
        "step / floor": ratios(bare, whole),
        "batch": batch,
    }


def steps() -> dict[str, object]:
    """The presets, whole step against bare floor; and the paper's model in fp32."""
    found: dict[str, object] = {
        "tiny": step("tiny", 256),
        "small": step("small", 128),
        "paper": step("paper", 128),
        "paper, fp32": step("paper", 64, precision="fp32"),
    }
    return found


def pretraining(data: str, repeats: int = 10) -> dict[str, object]:
    """Clips per second of whole training steps on recordings, and the share of them that is not the model's."""
    config, clips = sl.preset("tiny"), sl.load_clips(data).for_pretraining()
    with tempfile.TemporaryDirectory() as folder:
        run = Training(config, clips, Path(folder), CPU)
        run.model.train()
        view1, view2 = torch.randn(2, config.batch_size, 1, 64, 96).unbind(0)
        ids = torch.arange(config.batch_size)

        def model_only() -> None:
            with autocast(config, CPU):
                loss = run.model.loss(view1, view2, ids)["total"]
            loss.backward()
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)

        with keep_freed_blocks(CPU, trains_in_bf16(config, CPU)):
            whole, model = seconds(run.one_step, model_only, repeats=repeats)
    return {
        "clips_per_second": spread([config.batch_size / took for took in whole]),
        "share_outside_the_model": spread([1 - m / w for m, w in zip(model, whole, strict=True)]),
        "repeats": repeats,
        "load": "whole training steps of the tiny preset, batch 256, from the store",
    }


def whole_run(data: str, repeats: int = 3, steps: int = 60) -> dict[str, object]:
    """Clips per second of a whole `pretrain`, from its call to its return: with statistics, books and checkpoints."""
    config, clips = sl.preset("tiny", steps=steps), sl.load_clips(data)
    took = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            sl.pretrain(config, clips, folder, device="cpu", progress=False)
            took.append(time.perf_counter() - begun)
    return {
        "clips_per_second": spread([steps * config.batch_size / each for each in took]),
        "repeats": repeats,
        "load": f"the tiny preset, batch 256, {steps} steps",
    }


def training() -> dict[str, object]:
    """Steps fed from the store against the same steps on input that is there already."""
    config = sl.preset("tiny")
    with tempfile.TemporaryDirectory() as folder:
        run = Training(config, some_clips(), Path(folder), CPU)
        run.model.train()
        ready = run.clips.windows(np.arange(config.batch_size), np.zeros(config.batch_size, int))

        def synthetic() -> None:
            with mock.patch.object(type(run.clips), "windows", lambda *_: ready):
                run.one_step()

        with keep_freed_blocks(CPU, trains_in_bf16(config, CPU)):
            real, made = seconds(run.one_step, synthetic, warmups=1)
    return {"from the store / synthetic input": ratios(made, real)}


def decoding() -> dict[str, object]:
    """Decoding into the store, in seconds of sound a second; and opening it again."""
    rng = np.random.default_rng(0)
    found: dict[str, object] = {}
    for rate in (16_000, 44_100):
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, f"{i}.flac") for i in range(120)]
            for file in files:
                soundfile.write(file, 0.1 * rng.standard_normal(10 * rate), rate)
            rates = []
            for turn in range(7):
                cache = Path(folder, f"cache-{turn}")
                with mock.patch.dict("os.environ", {"SLICER_LITE_CACHE": str(cache)}):
                    ((took,),) = seconds(lambda: sl.load_clips(folder, progress=False), repeats=1, warmups=0)
                    rates.append(10 * len(files) / took)
                    ((again,),) = seconds(lambda: sl.load_clips(folder, progress=False), repeats=1, warmups=0)
            found[f"FLAC at {rate} Hz, times real time"] = spread(rates)
    found["opening it again, seconds"] = again
    found["opening a million clips by the store's own path, seconds"] = opening(1_000_000)
    return found


def opening(count: int) -> dict[str, float]:
    """Seconds to open a finished store of so many clips, as for training; its sound is a file of holes."""
    number = pd.Series(np.arange(count))
    rows = pd.DataFrame({"clip": number, "task": "word", "split": "train"})
    rows["label"], rows["group"] = (number % 35).astype(str), (number // 50).astype(str)
    table = make_table([Path(f"/data/train/{i // 1000:04d}/{i:07d}.flac") for i in range(count)], rows)
    with tempfile.TemporaryDirectory() as folder:
        _write_index(Path(folder), table, np.arange(count), np.full(count, WINDOW))
        Path(folder, "skipped.json").write_text("[]")
        with Path(folder, "waveforms.i16").open("wb") as file:
            file.truncate(2 * WINDOW * count)
        (times,) = seconds(lambda: sl.load_clips(folder).for_pretraining())
    return spread(times)


def embedding() -> dict[str, object]:
    """Embedding clips of mixed lengths against the bare encoder's forward on the same number of windows."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(WINDOW // 2, 6 * SAMPLE_RATE, 300)
    clips = sl.Clips.from_waveforms([rng.uniform(-0.3, 0.3, n).astype(np.float32) for n in lengths])
    windows = int(np.maximum(lengths // WINDOW, 1).sum())
    encoder = sl.Encoder(channels=64, dim=512).eval()
    batches = [torch.randn(n, 1, 64, 96) for n in [256] * (windows // 256) + [windows % 256]]

    @torch.no_grad()
    def bare() -> None:
        for batch in batches:
            encoder(batch)

    with keep_freed_blocks(CPU):  # the bare forward too
        whole, forward = seconds(lambda: sl.embed(encoder, clips), bare, repeats=5, warmups=1)
    return {
        "embed / bare forward": ratios(forward, whole),
        "windows a second": spread([windows / t for t in whole]),
        "seconds of sound a second": spread([lengths.sum() / SAMPLE_RATE / t for t in whole]),
    }


def importing() -> dict[str, object]:
    """Seconds that `import slicer_lite` takes after torch, alone and with a name, each in a fresh interpreter."""
    found: dict[str, object] = {}
    for name in ("", "SLICER", "load", "pretrain"):
        asked = f"import slicer_lite; slicer_lite.{name}" if name else "import slicer_lite"
        code = f"import time, torch; t = time.perf_counter(); {asked}; print(time.perf_counter() - t)"
        command = [sys.executable, "-c", code]
        runs = [float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(7)]
        found[f"… and {name}" if name else "seconds after torch"] = spread(runs)
    return found


PARTS = {
    "views": views,
    "kmix": kmix,
    "step": steps,
    "training": training,
    "store": decoding,
    "embedding": embedding,
    "import": importing,
}


def main() -> None:
    on_data = {"pretraining": pretraining, "run": whole_run}
    names = ",".join([*PARTS, *on_data])
    arguments = parser(__doc__, parts=names, data="sounds", out=RESULTS / "speed.json").parse_args()
    parts = {**PARTS, **{name: partial(part, arguments.data) for name, part in on_data.items()}}
    warnings.simplefilter("ignore")
    measure_parts(parts, arguments.parts, arguments.out)


if __name__ == "__main__":
    main()
