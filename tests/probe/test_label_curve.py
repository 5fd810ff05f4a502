"""Accuracy along a run and against the number of labels: what is probed, and what the figure is made of."""

import json

import numpy as np
import pytest

import slicer_lite as sl
from slicer_lite import lape
from slicer_lite.explore import figures
from slicer_lite.probe.label_curve import _elapsed, few
from slicer_lite.probe.linear import quick_probe
from slicer_lite.training import curves
from slicer_lite.training.run_folder import read_metrics


@pytest.fixture(scope="module")
def clips(tones):
    return sl.load_clips(tones, progress=False)


@pytest.fixture
def run(clips, minute, tmp_path):
    sl.pretrain(minute.replace(steps=3), clips, tmp_path / "run", progress=False)
    return tmp_path / "run"


def test_few_takes_as_many_of_each_label_as_there_are():
    labels = np.array(list("abbcccc" * 3))
    for seed in range(5):
        chosen = labels[few(labels, 4, seed)]
        assert {name: int((chosen == name).sum()) for name in "abc"} == {"a": 3, "b": 4, "c": 4}
    assert set(few(labels, 4, 0)) != set(few(labels, 4, 1))


@pytest.mark.parametrize("again", [1.5, 6.0])
def test_the_curve_of_a_run_that_was_taken_up_again(run, clips, again):
    # After a pause the run's clock begins anew, and the first step may take longer than all before it.
    times = zip((1, 2, 3), (2.0, 3.0, again), (4.0, 16 / 3, 8 / again), strict=True)
    lines = [{"step": step, "seconds": at, "clips_per_second": rate} for step, at, rate in times]
    (run / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = lape.learning_curve(run, clips)
    assert found["step"].tolist() == [0, 1, 2, 3]
    assert found["clips_seen"].tolist() == [0, 8, 16, 24]
    assert found["seconds"].tolist() == [0.0, 2.0, 3.0, 3.0 + again]
    results = lape.evaluate(sl.load(run), clips)
    assert found["accuracy"].iloc[-1] == results["average"]["slicer"]


def test_the_clock_of_a_long_run(tmp_path):
    times = np.cumsum(np.random.default_rng(0).uniform(0.1, 3, 5000))
    lines = [{"step": n, "seconds": at, "clips_per_second": 256 * n / at} for n, at in enumerate(times, 1)]
    (tmp_path / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert _elapsed(tmp_path)[5000] == pytest.approx(times[-1])


def test_a_folder_without_snapshots_is_named(clips, tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        lape.learning_curve(tmp_path, clips)


def test_more_labels_of_a_noisy_feature_help(clips):
    label = clips.rows.set_index("clip")["label"].reindex(range(len(clips))) == "high"
    x = np.random.default_rng(0).standard_normal((len(clips), 30)) + 0.6 * label.to_numpy()[:, None]
    found = lape.label_curve({"x": x}, clips, labels=(2, 100), draws=2)
    assert found["count"].tolist() == ["2", "2", "100", "100", "all"]
    assert found["labels"].tolist() == [2, 2, 16, 16, 16]
    accuracy = found["accuracy"].tolist()
    assert np.mean(accuracy[:2]) < accuracy[-1]
    assert accuracy[2:4] == [accuracy[-1]] * 2  # there are no more than all


def test_a_validation_split_chooses_the_strength_whatever_the_number_of_labels(clips):
    rows = clips.rows
    held = rows.index[rows["split"] == "train"][::3]
    split = clips.subset(np.arange(len(clips)))
    split.rows = rows.assign(split=rows["split"].where(~rows.index.isin(held), "validation"))
    x = np.random.default_rng(0).standard_normal((len(clips), 30))
    found = lape.label_curve({"x": x}, split, labels=(1,), draws=2)
    assert found["labels"].tolist()[:2] == [1, 1]  # nothing need be held out of them
    task = split.tasks[0]
    assert found["accuracy"].iloc[-1] == quick_probe(x, split.rows[split.rows["task"] == task]).accuracy


def test_a_task_that_is_not_there_and_no_labels_are_refused(clips):
    x = {"x": np.zeros((len(clips), 3))}
    with pytest.raises(ValueError, match="There is no task 'pich': the tasks are pitch"):
        lape.label_curve(x, clips, tasks=["pich"])
    with pytest.raises(ValueError, match=r"labels = \(0, 2\): at least 1"):
        lape.label_curve(x, clips, labels=(0, 2))


def test_the_figure_shows_each_seed_the_means_and_the_baselines():
    results = {
        "curve": [
            {
                "seed": seed,
                "clips_seen": 256 * step,
                "seconds": 2.0 * step,
                "accuracy": 0.5 + step / 100 + seed / 10,
            }
            for seed in (0, 1)
            for step in (0, 1, 4)
        ],
        "baselines": {"mel": 0.4},
        "labels": [
            {"seed": seed, "features": name, "count": count, "accuracy": 0.3 + 0.1 * seed}
            for seed in (0, 1)
            for name in ("slicer", "mel")
            for count in ("5", "all")
        ],
    }
    by_clips, by_time, by_labels = figures.learning(results).axes
    heights = [list(line.get_ydata()) for line in by_clips.lines]
    assert np.array(heights) == pytest.approx(np.array([[51, 54], [61, 64], [56, 59], [40, 40]]))
    assert by_time.lines[2].get_xdata() == pytest.approx([2 / 60, 8 / 60])
    assert [label.get_text() for label in by_labels.get_xticklabels()] == ["5", "all"]
    assert by_labels.lines[2].get_ydata() == pytest.approx([35, 35])


def test_a_run_that_is_going_on_or_was_cut_off_can_be_looked_at(run, clips):
    for name in ("metrics.jsonl", "timings.jsonl"):
        lines = (run / name).read_text().splitlines(keepends=True)
        (run / name).write_text("".join(lines[:2]) + lines[2][:9])  # the third was cut short
    found = lape.learning_curve(run, clips)
    assert found["step"].tolist() == [0, 1, 2, 3]
    assert found["seconds"].isna().tolist() == [False, False, False, True]
    assert [line["step"] for line in read_metrics(run)] == [1, 2]
    curves.curves(run)
