"""Settings against each other: intervals by hand, and what counts as one change."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import slicer_lite as sl
from slicer_lite.explore import figures
from slicer_lite.probe import compare


def result(name, folds, seed=0, **changes):
    config = sl.preset("tiny", **changes, seed=seed).to_dict()
    return {"name": name, "config": config, "seed": seed, "folds": folds}


BASE = result("base", {"a": [0.5, 0.6], "b": [0.7, 0.7]})


def test_one_seed_by_hand():
    other = result("other", {"b": [0.8, 0.9], "a": [0.5, 0.7]}, dropout=0.1)
    row = compare.differences([BASE, other], "base").loc["other"]
    # Differences: a 0.0 and 0.1, b 0.1 and 0.2; the variance of either pair is 0.005. Two folds train on half of
    # the clips each: 1/2 + 1/1.
    reach = stats.t.ppf(0.975, 2) * np.sqrt(0.005 * 1.5 / 2)
    assert row["difference"] == pytest.approx(0.1)
    assert (row["low"], row["high"]) == pytest.approx((0.1 - reach, 0.1 + reach))
    assert row["seeds"] == 1
    assert row["by_seed"] == pytest.approx([0.1])


def test_seeds_widen_the_interval_by_hand():
    # Every fold moves alike, so that all of the variance is the seeds'.
    results = [BASE]
    for seed, shift in enumerate((0.0, 0.1, 0.2)):
        results.append(
            result("other", {task: [x + shift for x in xs] for task, xs in BASE["folds"].items()}, seed)
        )
    row = compare.differences(results, "base").loc["other"]
    reach = stats.t.ppf(0.975, 2) * np.sqrt(0.01 / 3 + 0.01)  # three seeds against one
    assert (row["difference"], row["high"] - row["difference"]) == pytest.approx((0.1, reach))
    assert row["by_seed"] == pytest.approx([0.0, 0.1, 0.2])


def test_the_spread_over_seeds_is_pooled_by_hand():
    def seeds(name, *shifts):
        moved = [{task: [x + s for x in xs] for task, xs in BASE["folds"].items()} for s in shifts]
        return [result(name, folds, seed) for seed, folds in enumerate(moved)]

    results = [*seeds("base", 0.0, 0.1), *seeds("other", 0.2, 0.2), *seeds("untrained", -0.3, 0.3)]
    row = compare.differences(results, "base").loc["other"]
    # Variances 0.005 and 0 within the two settings; the baseline has none of a training's seeds.
    reach = stats.t.ppf(0.975, 2) * np.sqrt(0.0025 * (1 / 2 + 1 / 2))
    assert (row["difference"], row["high"] - row["difference"]) == pytest.approx((0.15, reach))


def test_only_what_is_asked_for_is_compared_under_its_other_name():
    far = [result("far", {"a": [0.0, 0.1], "b": [0.2, 0.9]}, seed) for seed in (0, 1)]
    other = result("other", {"a": [0.5, 0.7], "b": [0.8, 0.9]}, dropout=0.1)
    found = compare.differences([BASE, *far, other], "base", {"other": "dropout 0.1"})
    alone = compare.differences([BASE, other], "base")
    assert list(found.index) == ["dropout 0.1"]
    assert found.loc["dropout 0.1"].to_dict() == alone.loc["other"].to_dict()


def test_a_difference_in_words():
    found = pd.DataFrame(
        {
            "difference": [0.02, -0.02, 0.02],
            "low": [0.01, -0.03, -0.01],
            "high": [0.03, -0.01, 0.05],
            "seeds": [1, 2, 3],
        },
        index=["a", "b", "c"],
    )
    assert compare.in_words(found) == [
        "a: better (+2.0, +1.0 to +3.0; 1 seed)",
        "b: worse (-2.0, -3.0 to -1.0; 2 seeds)",
        "c: not to be told apart (+2.0, -1.0 to +5.0; 3 seeds)",
    ]


def test_tasks_may_have_different_numbers_of_folds():
    base = result("base", {"a": [0.5, 0.6, 0.7], "b": [0.7, 0.7]})
    other = result("other", {"a": [0.5, 0.7, 0.9], "b": [0.8, 0.9]}, dropout=0.1)
    row = compare.differences([base, other], "base").loc["other"]
    # Differences: 0.0, 0.1, 0.2 with variance 0.01, and 0.1, 0.2 with variance 0.005.
    # Each task is a source of its own, as Satterthwaite has it.
    a, b = 0.01 * (1 / 3 + 1 / 2) / 4, 0.005 * (1 / 2 + 1) / 4
    reach = stats.t.ppf(0.975, (a + b) ** 2 / (a**2 / 2 + b**2 / 1)) * np.sqrt(a + b)
    assert row["difference"] == pytest.approx((0.1 + 0.15) / 2)
    assert row["high"] - row["difference"] == pytest.approx(reach)
    with pytest.raises(ValueError, match="'b' has one fold"):
        compare.differences([result("base", {"a": [0.5, 0.6], "b": [0.7]})], "base")


def test_results_of_before_a_setting_was_known_are_compared():
    old = {**BASE, "config": {k: v for k, v in BASE["config"].items() if k != "two_windows"}}
    new = result("two windows", BASE["folds"], two_windows=True)
    assert compare.families([old, new]) == {"base": {"two windows": "two_windows True"}}


def test_a_setting_that_has_been_given_up_is_a_difference():
    old = {**BASE, "name": "old", "config": {**BASE["config"], "views": 4}}
    assert compare.families([result("now", BASE["folds"]), old]) == {"now": {"old": "views 4"}}


def test_equal_results_differ_by_nothing():
    row = compare.differences([BASE, {**BASE, "name": "same"}], "base").loc["same"]
    assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)


def test_intervals_hold_what_they_promise():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        results = []
        for name in ("base", "other"):
            for seed in range(3):
                folds = {task: rng.normal(0.5, 0.02, 5).tolist() for task in "abc"}
                results.append(result(name, folds, seed))
        row = compare.differences(results, "base").loc["other"]
        covered += row["low"] <= 0 <= row["high"]
    assert covered >= 190  # the correction for shared training clips makes it wider than these need


def test_intervals_hold_where_one_task_is_noisy_and_has_few_folds():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        results = []
        for name in ("base", "other"):
            # Folds that share training clips go up and down together, as Nadeau and Bengio assume.
            folds = {}
            for task, count, spread in (("a", 5, 0.02), ("b", 2, 0.1)):
                shared = rng.normal() * np.sqrt(1 / count)
                folds[task] = (
                    0.5 + spread * (shared + rng.normal(size=count) * np.sqrt(1 - 1 / count))
                ).tolist()
            results.append(result(name, folds))
        row = compare.differences(results, "base").loc["other"]
        covered += row["low"] <= 0 <= row["high"]
    # Nine of ten: two folds say little of their own variance. With all tasks' folds counted as one it was eight.
    assert covered >= 0.86 * 400


def test_features_of_other_clips_are_refused(tones):
    clips = sl.load_clips(tones, progress=False).for_pretraining()
    with pytest.raises(ValueError, match=rf"'given' have 3 rows, and there are {len(clips)} clips"):
        compare.fold_accuracies(np.zeros((3, 2)), clips)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="no result called 'other': there are base"):
        compare.differences([BASE], "other")
    for folds in ({"a": [0.5, 0.6]}, {"a": [0.5, 0.6], "c": [0.7, 0.7]}, {"a": [0.5] * 3, "b": [0.7] * 3}):
        with pytest.raises(
            ValueError, match="'other' and 'base' were not probed on the same tasks and folds"
        ):
            compare.differences([BASE, result("other", folds)], "base")
    with pytest.raises(ValueError, match="called 'base' were not probed on the same"):
        compare.differences([BASE, result("base", {"a": [0.5, 0.6]}, seed=1)], "base")
    with pytest.raises(ValueError, match="Two results are called 'other' and have seed 0"):
        compare.differences([BASE, *[{**BASE, "name": "other"}] * 2], "base")  # as of one run twice


def test_families_differ_in_one_thing():
    folds = BASE["folds"]
    results = [
        result("mel", folds),
        result("base", folds, temperature=0.1, dropout=0.3),
        result("momentum", folds, temperature=0.1, dropout=0.3, teacher_momentum=0.9),
        result("queue", folds, temperature=0.1, dropout=0.3, queue=99),
        result("dry", folds, temperature=0.1),
        result("dry, hot", folds, temperature=0.2),
        result("far", folds, temperature=0.3, queue=77),
    ]
    assert compare.families(results) == {
        "base": {"momentum": "teacher_momentum 0.9", "queue": "queue 99", "dry": "dropout 0.0"},
        "dry": {"dry, hot": "temperature 0.2"},
    }


def test_fold_accuracies_are_those_of_cross_validation(tones):
    clips = sl.load_clips(tones, progress=False).for_pretraining()
    features = np.random.default_rng(0).normal(size=(len(clips), 3))
    found = compare.fold_accuracies(features, clips, cs=(1.0,))
    expected = sl.lape.cross_validate(features, clips.labels("pitch"), clips.rows["group"], cs=(1.0,))
    assert found == {"pitch": [fold.accuracy for fold in expected]}


def test_the_figure_shows_settings_intervals_and_seeds():
    folds = BASE["folds"]
    better = {task: [x + 0.1 for x in xs] for task, xs in folds.items()}
    results = [BASE, result("better", better), result("better", better, seed=1), result("same", folds)]
    axes = figures.differences(compare.differences(results, "base"), "title").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "same"]
    _, seeds, line, dot, _, last = axes.lines  # zero; of 'better': seeds, interval, mean; of 'same': two
    assert seeds.get_xdata() == pytest.approx([10, 10])
    assert dot.get_xdata() == pytest.approx([10])
    assert line.get_color() == figures.COLOURS[1]
    assert last.get_markerfacecolor() == "white"
    assert axes.get_ylim() == (1.5, -0.5)  # the first on top
