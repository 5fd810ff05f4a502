"""What README says was measured is what the result files say."""

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = " ".join((ROOT / "README.md").read_text().split())


def results(name):
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text())


@pytest.fixture(scope="module")
def quoted():
    speed, light, world = results("speed.json"), results("first_light.json"), results("sound_world.json")
    step, rate = speed["step"], light["speed"]["clips_per_second"]["median"]
    seeds = [seed["average"] for seed in light["seeds"]]
    mean = {name: 100 * np.mean([seed[name] for seed in seeds]) for name in seeds[0]}
    trained = [f"{100 * seed['slicer']:.1f}" for seed in seeds]
    return [
        f"{rate:.0f} clips a second, everything included "
        f"({100 * light['speed']['share_outside_the_model']['median']:.0f} % of it outside the model): "
        f"200 steps in {200 * 256 / rate / 60:.1f} minutes",
        f"preset small | {step['small']['step, clips a second']['median']:.0f} clips a second",
        f"preset paper | {step['paper']['step, clips a second']['median']:.0f} clips a second",
        f"one thread | {speed['views']['milliseconds a clip']['two views']['median']:.2f} ms",
        f"{speed['embedding']['seconds of sound a second']['median']:.0f} seconds of sound a second",
        f"{speed['store']['FLAC at 44100 Hz, times real time']['median']:,.0f} times real time at 44.1 kHz",
        f"average {mean['slicer']:.1f} % (three seeds: {', '.join(trained)}), beside "
        f"{mean['untrained encoder']:.1f} % for the same encoder untrained, "
        f"{mean['mel mean + deviation']:.1f} % for mel statistics and {mean['majority class']:.1f} %",
        f"mel statistics average {world['accuracy']['mean_spectrum']['average']:.0f} % over its eight tasks, "
        f"a supervised encoder {world['accuracy']['supervised']['average']:.0f} %",
    ]


def test_readme_quotes_the_result_files(quoted):
    missing = [text for text in quoted if text not in README]
    assert not missing


def test_readme_names_every_file_of_the_package():
    house = (ROOT / "README.md").read_text().partition("slicer_lite/\n")[2].partition("notebooks/ ")[0]
    listed = {line.split()[0].rstrip("/") for line in house.splitlines() if line.strip()}
    there = {p.name for p in (ROOT / "slicer_lite").iterdir() if not p.name.startswith("_")}
    assert listed == there
