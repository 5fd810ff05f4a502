"""README's table of speeds, made from the result files.

python benchmarks/table.py      puts it into README.md, between its two marks
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- made by benchmarks/table.py -->\n", "<!-- end -->\n"


def table() -> str:
    """The rows: what was measured, its median, and its smallest and largest value."""
    speed = json.loads((RESULTS / "speed.json").read_text())
    light = json.loads((RESULTS / "first_light.json").read_text())["speed"]
    step, views = speed["step"], speed["views"]["milliseconds a clip"]
    rows = [
        ("pre-training, preset tiny, everything included", light["clips_per_second"], "{:.0f} clips/s"),
        ("… of it outside the model", light["share_outside_the_model"], "{:.0%}"),
        *(
            (f"a training step, preset {name}", step[name]["step, clips a second"], "{:.0f} clips/s")
            for name in ("tiny", "small", "paper")
        ),
        *(
            (
                f"… as a share of the bare networks' rate, preset {name}",
                step[name]["step / floor"],
                "{:.2f}",
            )
            for name in ("tiny", "small", "paper")
        ),
        (
            "training from the store, as a share of the rate on ready input",
            speed["training"]["from the store / synthetic input"],
            "{:.3f}",
        ),
        ("two views of a clip, one thread", views["two views"], "{:.2f} ms"),
        ("… of which log-mel", views["log-mel"], "{:.2f} ms"),
        ("k-mix with 65,536 clips in memory / with 2,048", speed["kmix"]["memory 65536 / 2048"], "{:.2f}"),
        (
            "embedding (64 channels, d = 512), seconds of sound",
            speed["embedding"]["seconds of sound a second"],
            "{:.0f} s/s",
        ),
        (
            "… as a share of the bare encoder's rate",
            speed["embedding"]["embed / bare forward"],
            "{:.2f}",
        ),
        (
            "decoding FLAC at 44.1 kHz into the store, times real time",
            speed["store"]["FLAC at 44100 Hz, times real time"],
            "{:,.0f}",
        ),
        ("`import slicer_lite`, after PyTorch", speed["import"]["seconds after torch"], "{:.1f} s"),
    ]
    rows += on_gpu(json.loads((RESULTS / "gpu.json").read_text()))
    lines = ["| | median | smallest to largest |", "|---|---|---|"]
    lines += [
        f"| {name} | {pattern.format(found['median'])} | {_spread(found, pattern)} |"
        for name, found, pattern in rows
    ]
    return "\n".join(lines) + "\n"


def on_gpu(gpu: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float], str]]:
    """The rows of `gpu.json`."""
    name = gpu["rate"]["machine"]["gpu"]
    rows = []
    for size in (512, 2048):
        found = gpu["rate"][f"batch {size}"]
        rows += [
            (
                f"{name}: a compiled step, preset paper, batch {size}",
                found["clips a second"],
                "{:,.0f} clips/s",
            ),
            ("… as a share of the bare networks' rate", found["step / floor"], "{:.2f}"),
            ("… of it for log-mel, k-mix and crop", found["views' share of the step"], "{:.0%}"),
        ]
    ways = ("kernel by kernel", "replayed", "replayed, compiled")
    return rows + [
        (
            f"{name}: a step, preset paper, batch 512, {way}",
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


def _spread(found: Mapping[str, Any], pattern: str) -> str:
    return f"{pattern.format(found['min'])} to {pattern.format(found['max'])}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_table(path.read_text()))
