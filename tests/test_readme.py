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


def percent(*shares):
    return ", ".join(f"{100 * share:.1f}" for share in shares)


def rate(found):
    return "{median:.0f} clips/s ({min:.0f} to {max:.0f})".format(**found["clips_per_second"])


def inside(name, results):
    """Mean accuracy, and of how many seeds, of a setting that was probed inside the train split."""
    found = [r["average"] for r in results if r["name"] == name]
    return percent(np.mean(found)), len(found)


@pytest.fixture(scope="module")
def quoted():
    light, world, learning, small, wide = (
        results(f"{name}.json")
        for name in ("first_light", "sound_world", "learning", "learning_small", "wide")
    )
    rows = []
    for name, found in (
        ("preset tiny, 200 steps", light),
        (f"preset tiny, {learning['config']['steps']:,} steps", learning),
        (f"preset small, {small['config']['steps']:,} steps", small),
        ("preset small with `--dim 2048 --learning-rate 0.003`", wide),
    ):
        ends = [seed["average"]["slicer"] for seed in found["seeds"]]
        random = np.mean([seed["average"]["untrained encoder"] for seed in found["seeds"]])
        rows.append(f"| {name} | {percent(*ends)} | {percent(np.mean(ends))} | {percent(random)}")
    random = [network["average"] for network in light["untrained"]]
    rows[0] = rows[0].rpartition("|")[0] + (
        f"| {percent(np.mean(random))} ({len(random)} networks: {percent(min(random))} to {percent(max(random))})"
    )
    for name in ("tiny", "small"):
        card = (ROOT / "slicer_lite" / "share" / "pretrained" / f"{name}.md").read_text()
        trained, untrained = re.search(r"\| average \| (.*) \| (.*) \|", card).groups()
        rows.append(f"| weights in the package: {name} | {trained} | | {untrained}")
    rows = [f"{row} |" for row in rows]
    mel, majority = (
        percent(np.mean([seed["average"][name] for seed in light["seeds"]]))
        for name in ("mel mean + deviation", "majority class")
    )
    apart = results("unheard.json")
    gain, within, heard, unheard = (
        "{difference:.1f} points ({low:.1f} to {high:.1f})".format(**{k: 100 * v for k, v in found.items()})
        for found in (
            light["gain_over_untrained"],
            light["gain_inside_the_train_split"],
            apart["heard_over_untrained"],
            apart["unheard_over_untrained"],
        )
    )
    heard, unheard = (text.replace(" points", "") for text in (heard, unheard))
    assert apart["config"]["optimizer"] == "adamw"
    folds = [row["folds"].values() for row in light["inside"] if row["name"] == "untrained"]
    untrained = np.mean([np.mean([np.mean(task) for task in tasks]) for tasks in folds])
    minutes, rates = [], {}
    for name in ("speed", "speed_fp32", "speed_muon"):
        speed, plan = results(f"{name}.json"), learning["config"]
        whole = speed["pretraining"]["clips_per_second"]
        if name == "speed_muon":
            whole = whole, speed["run"]["clips_per_second"]
        else:
            rates[name] = speed["step"]["small"]["step, clips a second"]["median"]
            whole = speed["step"]["tiny"]["step, clips a second"], whole
        fast, slow = (plan["steps"] * plan["batch_size"] / each["median"] / 60 for each in whole)
        minutes.append(f"{fast:.0f} to {slow:.0f}")
    clips = small["config"]["steps"] * small["config"]["batch_size"]
    hours = [f"{clips / rates[name] / 3600:.1f}" for name in ("speed", "speed_fp32")]
    gpu = results("gpu.json")["rate"]["batch 512"]
    run, muon = results("speed_fp32.json")["run"]["clips_per_second"], results("speed_muon.json")
    first, many = results("choose.json"), results("ablations.json")
    base = "T 0.05, 1000 steps"
    cpu = {
        name: inside(base + name, first)[0] for name in ("", ", mixup", ", nomix", ", instance", ", delores")
    }
    tenth = inside(f"{base}, tenth", first)[0]
    base = "AdamW, 1000 steps"
    names = "cluster loss alone", "no entropy term", "one-sided", "mixup", "released settings"
    one = {name: inside(f"{base}, {name}", many) for name in names}
    one["base"] = inside(base, many)
    assert all(seeds == 3 for name, (_, seeds) in one.items() if name != "base")
    assert one["base"][1] == 6
    return [
        *rows,
        f"no network) have {mel}, the majority class {majority}",
        f"200 steps gain {gain.removesuffix(')')}, on these clips",
        f"it is {within}: there are more clips",
        f"alone: {heard} of sounds that it had heard, {unheard} of sounds that it had not",
        f"lifts untrained networks from {rows[2].split()[-2]} to {rows[3].split()[-2]}",
        f"untrained networks have {100 * untrained:.1f} % there",
        f"The {plan['steps']:,} steps of preset tiny are {minutes[0]} minutes of two idle cores with bf16 and "
        f"{minutes[1]} without, at the rates above, and {minutes[2]} with Muon on the Xeon",
        f"Those of small are {hours[0]} and {hours[1]} hours",
        f"whole steps of tiny on recordings ran at {rate(muon['pretraining'])}",
        f"a whole `pretrain` at {rate(muon['run']).replace(' clips/s', '')}",
        f"then {gpu['minutes for 250,000 clips, 50 epochs']:.1f} minutes of steps, at "
        f"{gpu['clips a second']['median']:,.0f} clips a second",
        f"ran at {run['median']:.0f} clips/s ({run['min']:.0f} to {run['max']:.0f}, three runs)",
        f"SLICER averages {cpu['']} %, with plain mixup instead of k-mix {cpu[', mixup']} %, with no mixing "
        f"{cpu[', nomix']} %, without its cluster loss {cpu[', instance']} %, DeLoRes-M {cpu[', delores']} %, and "
        f"SLICER trained on a tenth of the clips {tenth} %",
        f"SLICER averages {one['base'][0]} % (six seeds), with mixup {one['mixup'][0]} %, without the entropy term "
        f"{one['no entropy term'][0]} %, with only one view going to the student {one['one-sided'][0]} %, "
        f"with the settings of LAPE's code since July 2023 (SGD at 3e-4; other stages of it were not tried) "
        f"{one['released settings'][0]} %, "
        f"and with the cluster loss alone {one['cluster loss alone'][0]} %",
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
