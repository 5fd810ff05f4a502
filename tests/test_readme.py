"""What README says was measured is what the result files say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = " ".join((ROOT / "README.md").read_text().split())


def results(name):
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text())


@pytest.fixture(scope="module")
def quoted():
    light, world, learning = (results(f"{name}.json") for name in ("first_light", "sound_world", "learning"))
    gpu = results("gpu.json")["rate"]["batch 512"]
    minutes = gpu["minutes for 250,000 clips, 50 epochs"]
    small = [seed["average"] for seed in results("learning_small.json")["seeds"]]
    grown, before = (
        " %, ".join(f"{100 * s[name]:.1f}" for s in small) for name in ("slicer", "untrained encoder")
    )
    small_mean = 100 * np.mean([s["slicer"] for s in small])
    ends = [f"{100 * seed['average']['slicer']:.1f} %" for seed in learning["seeds"]]
    beside, plan = learning["baselines"], learning["config"]
    minutes_of = []
    for speed in (results("speed.json"), results("speed_fp32.json")):
        rates = speed["step"]["tiny"]["step, clips a second"], speed["pretraining"]["clips_per_second"]
        fast, slow = (plan["steps"] * plan["batch_size"] / rate["median"] / 60 for rate in rates)
        minutes_of.append(f"{fast:.0f} to {slow:.0f}")
    seeds = [seed["average"] for seed in light["seeds"]]
    mean = {name: 100 * np.mean([seed[name] for seed in seeds]) for name in seeds[0]}
    trained = [f"{100 * seed['slicer']:.1f}" for seed in seeds]
    random = [100 * network["average"] for network in light["untrained"]]
    gain, inside, unheard = (
        "{difference:.1f} points ({low:.1f} to {high:.1f})".format(**{k: 100 * v for k, v in found.items()})
        for found in (
            light["gain_over_untrained"],
            light["gain_inside_the_train_split"],
            results("unheard.json")["unheard_over_untrained"],
        )
    )
    unheard = unheard.replace(" points", "")
    choose = results("choose.json")
    whole, mixup, unmixed, instance, delores, tenth = (
        np.mean([100 * r["average"] for r in choose if r["name"] == f"T 0.05, 1000 steps{changed}"])
        for changed in ("", ", mixup", ", nomix", ", instance", ", delores", ", tenth")
    )
    run = results("speed_fp32.json")["run"]["clips_per_second"]
    cards = [(ROOT / "slicer_lite" / "pretrained" / f"{name}.md").read_text() for name in ("tiny", "small")]
    tiny, larger = (re.search(r"\| average \| (.*) \| (.*) \|", card).groups() for card in cards)
    return [
        f"tiny averages {tiny[0]} % on the same tasks (untrained {tiny[1]} %), small {larger[0]} % "
        f"(untrained {larger[1]} %)",
        f"average {mean['slicer']:.1f} % (three seeds: {', '.join(trained)}), beside "
        f"{np.mean(random):.1f} % for the same encoder untrained ({len(random)} networks: {min(random):.1f} to "
        f"{max(random):.1f}), {mean['mel mean + deviation']:.1f} % for mel statistics and "
        f"{mean['majority class']:.1f} % for the majority class: a gain of {gain}",
        f"then {minutes:.1f} minutes of steps, at {gpu['clips a second']['median']:,.0f} clips a second",
        f"ran at {run['median']:.0f} clips/s ({run['min']:.0f} to {run['max']:.0f}, three runs)",
        f"ends at {grown} % (three seeds: {small_mean:.1f} % on average; untrained {before} %)",
        f"Inside the train split, where there are more clips to tell by, it is {inside}, and {unheard} of sounds "
        "there that pre-training has not heard",
        f"The preset's {plan['steps']:,} steps, {minutes_of[0]} minutes of two idle cores with bf16 and "
        f"{minutes_of[1]} without at the rates above, end at "
        f"{ends[0]}, {ends[1]} and {ends[2]}, beside "
        f"{100 * beside['untrained encoder']:.1f} % and {100 * beside['mel mean + deviation']:.1f} %",
        f"SLICER averages {whole:.1f} %, with plain mixup instead of k-mix {mixup:.1f} %, with no mixing "
        f"{unmixed:.1f} %, without its cluster loss {instance:.1f} %, DeLoRes-M {delores:.1f} %, and SLICER trained "
        f"on a tenth of the clips {tenth:.1f} %",
        f"mel statistics average {world['accuracy']['mean_spectrum']['average']:.0f} % over its eight tasks, "
        f"a supervised encoder {world['accuracy']['supervised']['average']:.0f} %",
    ]


def test_readme_quotes_the_result_files(quoted):
    missing = [text for text in quoted if text not in README]
    assert not missing


def test_table_of_speeds_is_made_from_the_result_files(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import table

    readme = (ROOT / "README.md").read_text()
    assert table.with_table(readme) == readme


def test_readme_names_every_file_of_the_package():
    house = (ROOT / "README.md").read_text().partition("slicer_lite/\n")[2].partition("notebooks/ ")[0]
    listed = {line.split()[0].rstrip("/") for line in house.splitlines() if line.strip()}
    there = {p.name for p in (ROOT / "slicer_lite").iterdir() if not p.name.startswith("_")}
    assert listed == there


def test_the_scaling_tables_follow_from_the_measured_rates():
    page = (ROOT / "docs" / "scaling.md").read_text()
    step = results("speed.json")["step"]
    ways = {name.partition(",")[0]: found for name, found in results("gpu.json")["ways"].items()}
    for preset in ("tiny", "small", "paper"):
        rate = step[preset]["step, clips a second"]["median"]
        hours = [clips / rate / 3600 for clips in (250e3, 2e6, 100e6)]
        on_gpu = max(ways[preset][way]["median"] for way in ("replayed", "replayed, compiled"))
        there = [clips / on_gpu / 3600 for clips in (250e3, 2e6, 100e6)]
        row = f"| {preset} | {rate:.0f} | {hours[0]:.1f} | {hours[1]:.1f} | {hours[2]:.0f} "
        assert row + f"| {on_gpu:,.0f} | {there[0]:.3f} | {there[1]:.2f} | {there[2]:.1f} |" in page
    decoding = [
        results("speed.json")["store"][f"FLAC at {rate} Hz, times real time"]["median"]
        for rate in (16000, 44100)
    ]
    assert f"ran at {decoding[0]:,.0f} times real time (44.1 kHz: {decoding[1]:,.0f})" in page
