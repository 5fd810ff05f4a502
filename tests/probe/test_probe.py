"""Probes that deserve belief: against scikit-learn, against chance, and without a look at the test split."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.container import BarContainer
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

import slicer_lite as sl
from slicer_lite import lape
from slicer_lite.explore import figures
from slicer_lite.probe.evaluate import MAJORITY, MEL, TRAINED, UNTRAINED, as_text
from slicer_lite.probe.intervals import wilson
from slicer_lite.probe.linear import counted, split_folds


def blobs(count, classes=4, dim=20, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    y = np.arange(count) % classes
    return centres[y] + spread * rng.standard_normal((count, dim)), y


def test_agrees_with_scikit_learn_on_the_same_features():
    train_x, train_y = blobs(400)
    test_x, test_y = blobs(1000, seed=1)
    ours = lape.linear_probe(train_x, train_y, test_x, test_y)
    mean, deviation = train_x.mean(0), train_x.std(0)
    plain = LogisticRegression(C=ours.C, max_iter=1000).fit((train_x - mean) / deviation, train_y)
    assert ours.accuracy == pytest.approx(plain.score((test_x - mean) / deviation, test_y), abs=0.005)


def test_separable_is_solved_and_noise_is_chance():
    train_x, train_y = blobs(200, spread=0.01)
    assert lape.linear_probe(train_x, train_y, *blobs(100, spread=0.01, seed=1)).accuracy == 1
    rng = np.random.default_rng(0)
    noise = lape.linear_probe(
        rng.standard_normal((400, 5)), train_y.repeat(2), rng.standard_normal((400, 5)), blobs(400)[1]
    )
    assert noise.low <= 0.25 <= noise.high


def test_the_test_labels_play_no_part_in_the_choice():
    train_x, train_y = blobs(80, spread=3)
    test_x, test_y = blobs(100, spread=3, seed=1)
    one = lape.linear_probe(train_x, train_y, test_x, test_y)
    other = lape.linear_probe(train_x, train_y, test_x, np.roll(test_y, 1))
    assert one.C == other.C


def test_groups_are_kept_together_when_the_strength_is_chosen():
    # Features that only tell groups apart. Folds that split groups would reward a weak regularisation.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    y = groups % 2
    x = rng.standard_normal((40, 60))[groups] + 0.01 * rng.standard_normal((200, 60))
    grouped = lape.linear_probe(x, y, x, y, groups=groups, cs=(1e-5, 10.0))
    assert grouped.accuracy > 0.9  # on its own train clips
    apart = lape.linear_probe(x, y, x, y, cs=(1e-5, 10.0))
    assert apart.C == 10.0


def test_cross_validation_is_a_probe_on_each_fold():
    x, y = blobs(200, spread=2)
    folds = lape.cross_validate(x, y)
    assert sum(fold.clips for fold in folds) == 200
    whole = sum(fold.correct for fold in folds) / 200
    assert whole == pytest.approx(lape.linear_probe(x, y, *blobs(2000, spread=2, seed=1)).accuracy, abs=0.1)
    assert folds == lape.cross_validate(x, y)


def test_cross_validation_keeps_groups_together():
    # Features that only tell groups apart say nothing of a class in groups that were not seen.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    x = rng.standard_normal((60, 40))[groups] + 0.01 * rng.standard_normal((300, 40))
    y = rng.permutation(np.arange(60) % 2)[groups]
    apart = np.mean([fold.accuracy for fold in lape.cross_validate(x, y)])
    together = np.mean([fold.accuracy for fold in lape.cross_validate(x, y, groups)])
    assert apart > 0.95
    assert together < 0.7


@pytest.mark.parametrize("each", [(3, 3, 3), (1, 2, 3)])
def test_a_few_groups_a_class_are_kept_together_too(each):
    # As with places and speakers: fewer groups than folds, and a class with one alone.
    groups = np.repeat(np.arange(sum(each)), 20)
    y = np.repeat(np.arange(3), each)[groups]
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal((sum(each), 40))[groups] + rng.standard_normal((len(groups), 40))
    apart = np.mean([fold.accuracy for fold in lape.cross_validate(x, y)])
    together = np.mean([fold.accuracy for fold in lape.cross_validate(x, y, groups)])
    assert apart > 0.95
    assert together < 0.7


def test_a_strength_that_says_next_to_nothing_is_not_chosen():
    # Each group is far from the others of its class, and a classifier of groups that it has not heard is too sure of
    # itself. By likelihood, one that hardly looks at the features is best, and then it is worse than chance: the
    # class of the group that is held out is the rarest among the others.
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(24), 10)
    y = groups // 4
    x = 0.3 * rng.standard_normal((6, 30))[y] + rng.standard_normal((24, 30))[groups]
    x += 0.3 * rng.standard_normal(x.shape)
    assert np.mean([fold.accuracy for fold in lape.cross_validate(x, y, groups)]) > 0.2


def test_a_blank_group_is_a_group_of_its_own():
    # A blank among the others leaves them together, as None and spaces do; blanks alone are as no groups at all.
    rng = np.random.default_rng(0)
    y = np.arange(80) // 2 % 2
    groups = [f"g{n // 4}" for n in range(80)]
    for blank in ("", None, "  "):
        groups[6] = blank
        for fit, held in split_folds(y, groups, 4, 0):
            assert not {groups[n] for n in fit} & {groups[n] for n in held}
    x = rng.standard_normal((80, 5))
    assert lape.cross_validate(x, y, [""] * 80) == lape.cross_validate(x, y)
    # Many blanks are no single group: they are in all folds.
    mostly = ["a", "a", "b", "b", "c", "c", "d", "d"] + [""] * 72
    sizes = [len(held) for _, held in split_folds(y, mostly, 4, 0)]
    assert max(sizes) <= 24
    assert lape.linear_probe(x, y, x, y, mostly, test_groups=mostly).groups == 76


def test_groups_that_are_classes_are_split():
    # Speakers to be told apart: none is left to learn from when one is held out.
    x, y = blobs(100, spread=0.01)
    assert np.mean([fold.accuracy for fold in lape.cross_validate(x, y, groups=y)]) == 1


def test_a_class_that_is_in_one_fold_only_counts_as_errors():
    x, y = blobs(100, spread=0.01)
    y[0] = 9
    assert sum(fold.correct for fold in lape.cross_validate(x, y)) == 99


def test_wilson_interval():
    # Known value: 50 of 100 gives 40.38 to 59.62 per cent.
    half = counted(50, 100)
    assert (half.low, half.high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert counted(10, 10).high == pytest.approx(1)
    assert str(half) == "50.0 % (40.4 to 59.6)"


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_whole_counts_is_scipys(counts):
    correct, clips = counts
    theirs = binomtest(correct, clips).proportion_ci(0.95, method="wilson")
    assert wilson(correct / clips, clips) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_interval_of_a_mean_of_counts_lies_between_theirs():
    assert wilson(0, 1)[1] < wilson(0.5, 1)[1] < wilson(1, 1)[1]
    assert wilson(0.5, 1)[0] == pytest.approx(1 - wilson(0.5, 1)[1])


def test_majority():
    result = lape.majority(["a", "b", "b"], ["b", "a", "a", "b", "b"])
    assert (result.correct, result.clips) == (3, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_y": [0] * 40}, "at least two classes; the train split has only '0'"),
        ({"test_y": [9] * 20}, "labels that the train split lacks: 9"),
        ({"train_y": [0, 1]}, "40 train features with 2 labels"),
        ({"test_x": np.zeros((20, 3))}, r"\(N, D\) with one D"),
        ({"test_x": np.full((20, 20), np.nan)}, "must be finite"),
        ({"test_x": np.zeros((0, 20)), "test_y": []}, "there must be some"),
        ({"groups": ["a"]}, "1 groups with 40 train labels"),
        ({"cs": ()}, "no values of C"),
        ({"validation": (np.zeros((2, 3)), [0, 1])}, r"Validation features must be \(2, 20\)"),
        ({"validation": (np.zeros((3, 20)), [0, 1])}, r"Validation features must be \(2, 20\)"),
        ({"validation": (np.zeros((0, 20)), [])}, "at least one"),
        ({"validation": (np.full((2, 20), np.inf), [0, 1])}, "must be finite"),
    ],
)
def test_bad_arguments(change, message):
    train_x, train_y = blobs(40)
    test_x, test_y = blobs(20, seed=1)
    arguments = {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y, **change}
    with pytest.raises(ValueError, match=message):
        lape.linear_probe(**arguments)


def test_classes_of_few_clips():
    x, y = blobs(40)
    few = np.concatenate([np.flatnonzero(np.asarray(y) == label)[:2] for label in sorted(set(y))])
    labels = [y[place] for place in few]
    assert lape.linear_probe(x[few], labels, x, y).clips == 40
    with pytest.raises(ValueError, match="a single clip"):
        lape.linear_probe(x[few[::2]], labels[::2], x, y)


def test_folds_within_folds_need_three_clips():
    x, y = blobs(40)
    few = np.concatenate([np.flatnonzero(np.asarray(y) == label)[:2] for label in sorted(set(y))])
    labels = [y[place] for place in few]
    with pytest.raises(ValueError, match="Give one C, or three clips of some class"):
        lape.cross_validate(x[few], labels)
    assert len(lape.cross_validate(x[few].tolist(), labels, cs=(1.0,))) == 2
    with pytest.raises(ValueError, match="8 features, 8 labels and 1 groups"):
        lape.cross_validate(x[few], labels, ["a"])


@pytest.mark.parametrize(("many", "rare"), [(10, 1), (2, 1), (10, 2)])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_class_that_one_fold_holds_whole_leaves_the_others_to_choose_by(many, rare, grouped):
    x, _ = blobs(many + rare, classes=2)
    y = ["a"] * many + ["b"] * rare
    groups = [str(n) for n in range(len(y))] if grouped else None
    assert lape.linear_probe(x, y, x, y, groups).clips == many + rare
    if many > 2:
        assert 1 <= len(lape.cross_validate(x, y, groups)) <= 5


@pytest.fixture(scope="module")
def results(tones, minute, tmp_path_factory):
    model = sl.pretrain(minute, tones, tmp_path_factory.mktemp("runs") / "run", steps=2, progress=False)
    return lape.evaluate(model, sl.load_clips(tones, progress=False), progress=False)


def test_evaluate_reports_every_task_beside_three_baselines(results):
    assert list(results["tasks"]) == ["pitch"]
    row = results["tasks"]["pitch"]
    assert list(row) == [TRAINED, UNTRAINED, MEL, MAJORITY] == list(results["average"])
    assert row[MEL]["accuracy"] > 0.8  # low and high tones
    assert row[MAJORITY]["accuracy"] == 0.5
    assert row[TRAINED]["clips"] == 16
    assert results["average"][MEL] == row[MEL]["accuracy"]
    json.dumps(results)  # plain values


def test_results_as_text(results):
    lines = as_text(results).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["pitch", "average", TRAINED]
    assert len({len(line) for line in lines[:-1]}) == 1
    assert "50.0 (24.6 to 75.4)" in lines[1]  # eight groups of two clips
    assert lines[-1].endswith("Of groups of test clips (speakers, places), not of single clips: pitch 8.")
    assert lines[2].split()[1:] == lines[1].split()[1:]  # the average of one task
    apart = results["differences"][MAJORITY]
    row = results["tasks"]["pitch"]
    assert apart["difference"] == row[TRAINED]["accuracy"] - row[MAJORITY]["accuracy"]
    assert apart["low"] < apart["difference"] < apart["high"]
    assert list(results["differences"]) == [UNTRAINED, MEL, MAJORITY]


def test_results_without_an_interval_are_shown(results, tones):
    # The test clips of each class in two groups: places, of which a third might be another matter.
    clips = sl.load_clips(tones, progress=False)
    rows = clips.rows.assign(task="places", group=lambda r: r["label"] + (r.index % 4 // 2).astype(str))
    clips.rows = pd.concat([clips.rows, rows])
    model = sl.Pretrained(None, None, sl.preset("tiny"), 0)
    x = np.random.default_rng(0).standard_normal((len(clips), 3))
    found = json.loads(json.dumps(lape.evaluate(model, clips, given={TRAINED: x, MEL: x + 1})))
    assert [row[TRAINED]["low"] is None for row in found["tasks"].values()] == [False, True]
    assert found["tasks"]["places"][TRAINED]["groups"] == 4
    assert set(map(tuple, found["average_interval"].values())) == {(None, None)}
    assert found["differences"][MEL] == {"difference": 0, "low": None, "high": None}
    lines = as_text(found).splitlines()
    assert [line.count("(no interval)") for line in lines] == [0, 0, 3, 3, 2, 0]
    assert "No interval, since a class has one or two groups of test clips: places." in lines[-1]
    axes = figures.probe_bars(found).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["pitch\n8 groups", "places\nno interval"]
    bars = [container for container in axes.containers if isinstance(container, BarContainer)]
    whiskers = bars[0].errorbar.lines[2][0].get_paths()
    assert [bool(np.isfinite(path.vertices).all()) for path in whiskers] == [True, False]


def test_an_encoder_of_another_method_is_called_by_its_name(tones, minute, tmp_path):
    config = minute.replace(method="moco")
    model = sl.pretrain(config, tones, tmp_path / "run", steps=1, progress=False)
    clips = sl.load_clips(tones, progress=False)
    assert list(lape.evaluate(model, clips)["average"]) == ["moco", UNTRAINED, MEL, MAJORITY]
    with pytest.raises(ValueError, match=r"seed = -1: it must be a whole number from 0 to below 2\*\*32"):
        lape.evaluate(model, clips, seed=-1)


def test_nothing_to_probe_is_said(tones, results):
    model = sl.Pretrained(None, None, sl.preset("tiny"), 0)
    with pytest.raises(ValueError, match="No task can be probed"):
        lape.evaluate(model, sl.load_clips(tones, progress=False).for_pretraining())


@pytest.mark.parametrize("rows", [3, 400])
def test_features_of_other_clips_are_refused(tones, results, rows):
    clips = sl.load_clips(tones, progress=False)
    model = sl.Pretrained(None, None, sl.preset("tiny"), 0)
    with pytest.raises(
        ValueError, match=f"The features 'mine' have {rows} rows, and there are {len(clips)} clips"
    ):
        lape.evaluate(model, clips, given={"mine": np.zeros((rows, 3))})
    with pytest.raises(ValueError, match=f"'mine' have {rows} rows"):
        lape.label_curve({"mine": np.zeros((rows, 3))}, clips)


def test_a_task_that_cannot_be_probed_is_left_out_by_name(tones, results):
    clips = sl.load_clips(tones, progress=False)
    one = clips.rows.assign(task="one", label="same")
    new = clips.rows.assign(
        task="new", label=np.where(clips.rows["split"] == "test", "z", clips.rows["label"])
    )
    alone = clips.rows.assign(task="alone", label=[str(n) for n in range(len(clips.rows))])
    alone["label"] = np.where(alone["split"] == "test", "0", alone["label"])
    clips.rows = pd.concat([one, clips.rows, new, alone])
    x = {TRAINED: np.zeros((len(clips), 3))}
    model = sl.Pretrained(None, None, sl.preset("tiny"), 0)
    with pytest.warns(UserWarning) as said:
        assert list(lape.evaluate(model, clips, given=x)["tasks"]) == ["pitch"]
    assert [str(warning.message).partition(":")[0] for warning in said] == ["one", "new", "alone"]
    assert "one: left out. A probe needs at least two classes; the train split has only 'same'." in str(
        said[0].message
    )
    clips.rows = pd.concat([one, new])
    with pytest.raises(
        ValueError, match=r"No task can be probed: .*one: A probe needs .* new: The test split has labels"
    ):
        lape.evaluate(model, clips, given=x)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=30), st.integers(2, 5))
def test_whatever_the_groups_something_can_be_held_out(clips, folds):
    labels, groups = (np.array(values).astype(str) for values in zip(*clips, strict=True))
    assume(np.unique(labels, return_counts=True)[1].max() > 1)
    found = split_folds(labels, groups, folds, 0)
    assert 1 <= len(found) <= folds
    for fit, held in found:
        assert len(fit) and len(held)
        assert not set(fit) & set(held)
