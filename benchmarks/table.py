"""README's table of speeds, made from the result files.

python benchmarks/table.py      puts it into README.md, between its two marks
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measure import RESULTS, read

ROOT = Path(__file__).parents[1]
PRESETS = ("tiny", "small", "paper")
BEGIN, END = "<!-- made by benchmarks/table.py -->\n", "<!-- end -->\n"


def table() -> str:
    """Medians, with the smallest and the largest value: two CPUs side by side, then the GPU."""
    columns = [on_cpu("speed.json"), on_cpu("speed_fp32.json")]
    lines = ["| on two cores | with AVX-512 bf16 | with AVX2, in fp32 |", "|---|---|---|"]
    lines += [
        f"| {name} | {' | '.join(_cell(column[name], pattern) for column in columns)} |"
        for name, pattern in CPU_ROWS.items()
    ]
    gpu = read(RESULTS / "gpu.json")
    lines += ["", f"| on one {gpu['rate']['machine']['gpu']} | |", "|---|---|"]
    lines += [f"| {name} | {_cell(found, pattern)} |" for name, found, pattern in on_gpu(gpu)]
    return "\n".join(lines) + "\n"


CPU_ROWS = {
    "pre-training, preset tiny, whole steps on recordings": "{:.0f} clips/s",
    "… of it outside the model": "{:.0%}",
    **{f"a training step, preset {name}": "{:.0f} clips/s" for name in PRESETS},
    **{f"… as a share of the bare networks' rate, preset {name}": "{:.2f}" for name in PRESETS},
    "training from the store, as a share of the rate on ready input": "{:.3f}",
    "two views of a clip, one thread": "{:.2f} ms",
    "… of which log-mel": "{:.2f} ms",
    "k-mix with 65,536 clips in memory / with 2,048": "{:.2f}",
    "embedding (64 channels, d = 512), seconds of sound": "{:.0f} s/s",
    "… as a share of the bare encoder's rate": "{:.2f}",
    "decoding FLAC at 44.1 kHz into the store, times real time": "{:,.0f}",
    "`import slicer_lite`, after PyTorch": "{:.1f} s",
}


def on_cpu(file: str) -> dict[str, Mapping[str, float]]:
    """What one machine's file says for each of `CPU_ROWS`."""
    speed = read(RESULTS / file)
    step, views, embedding = speed["step"], speed["views"]["milliseconds a clip"], speed["embedding"]
    found = [
        speed["pretraining"]["clips_per_second"],
        speed["pretraining"]["share_outside_the_model"],
        *(step[name]["step, clips a second"] for name in PRESETS),
        *(step[name]["step / floor"] for name in PRESETS),
        speed["training"]["from the store / synthetic input"],
        views["two views"],
        views["log-mel"],
        speed["kmix"]["memory 65536 / 2048"],
        embedding["seconds of sound a second"],
        embedding["embed / bare forward"],
        speed["store"]["FLAC at 44100 Hz, times real time"],
        speed["import"]["seconds after torch"],
    ]
    return dict(zip(CPU_ROWS, found, strict=True))


def on_gpu(gpu: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float], str]]:
    """The rows of `gpu.json`."""
    rows = []
    for size in (512, 2048):
        found = gpu["rate"][f"batch {size}"]
        rows += [
            (
                f"a compiled step, preset paper, batch {size}",
                found["clips a second"],
                "{:,.0f} clips/s",
            ),
            ("… as a share of the bare networks' rate", found["step / floor"], "{:.2f}"),
            ("… of it for log-mel, k-mix and crop", found["views' share of the step"], "{:.0%}"),
        ]
    ways = ("kernel by kernel", "replayed", "replayed, compiled")
    return rows + [
        (
            f"a step, preset paper, batch 512, {way}",
            gpu["ways"]["paper, batch 512"][way],
            "{:,.0f} clips/s",
        )
        for way in ways
    ]


def with_table(readme: str) -> str:
    """README's text with the table as the result files have it now."""
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"README.md has no {BEGIN.strip()} … {END.strip()} to put the table between.")
    return before + BEGIN + table() + END + after


def _cell(found: Mapping[str, float], pattern: str) -> str:
    """`219 clips/s (192 to 254)`"""
    median, *ends = (pattern.format(found[key]) for key in ("median", "min", "max"))
    unit = " " + median.partition(" ")[2]
    return f"{median} ({' to '.join(end.removesuffix(unit) for end in ends)})"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_table(path.read_text()))
