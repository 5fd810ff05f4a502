"""Intervals that know of groups: closed forms, what they reduce to, and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from slicer_lite import lape
from slicer_lite.probe import intervals
from slicer_lite.probe.intervals import Interval, clustered, numbered, says_nothing, wilson
from slicer_lite.probe.linear import scored

GROUPS = st.lists(st.integers(1, 20).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=2)


def drawn(sizes, truth, alike, rng):
    """Right answers of groups whose own accuracies vary: `alike` is the correlation of two clips of a group."""
    within = (1 - alike) / alike
    return rng.binomial(sizes, rng.beta(truth * within, (1 - truth) * within, len(sizes)))


def test_a_blank_is_a_group_of_its_own():
    assert numbered(["b", "", "a", None, " ", float("nan"), "b"]).tolist() == [1, 2, 0, 3, 4, 5, 1]
    assert numbered(np.array([10, 9, 10])).tolist() == [0, 1, 0]
    assert numbered(["", None]) is None
    assert numbered([]) is None


def test_two_groups_of_four_all_right():
    # With a fifth group, half right, the share is a half of 50 clips, and leaving out any of the four moves it by
    # 5 / 40; the design effect is (4 / 64) (4 / 5) 50 / 0.25 = 10, so that the 40 clips are worth four.
    found = clustered([10, 10, 0, 0], [10, 10, 10, 10])
    assert found == pytest.approx(wilson(0.5, 4, t.ppf(0.975, 3)), abs=1e-12)
    assert found[0] < 0.1 < 0.9 < found[1]


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_groups_of_one_clip_each_have_wilsons_interval(right):
    assert clustered(right, np.ones(len(right))) == wilson(np.mean(right), len(right))
    alone = scored(np.array(right, bool), ["a"] * len(right), [str(n) for n in range(len(right))])
    assert (alone.low, alone.high, alone.groups) == (*wilson(np.mean(right), len(right)), len(right))


@given(GROUPS)
def test_the_interval_is_never_narrower_than_wilsons(groups):
    correct, clips = np.array(groups).T
    low, high = clustered(correct, clips)
    by_clip = wilson(correct.sum() / clips.sum(), clips.sum())
    assert 0 <= low <= by_clip[0] + 1e-12
    assert by_clip[1] - 1e-12 <= high <= 1


def test_of_one_group_nothing_is_known():
    with pytest.raises(ValueError, match="All 5 clips are of one group"):
        clustered([3], [5])
    low, high = clustered([1_000_000, 0], [1_000_000, 1])  # as good as one
    assert (low, high) == (0, 1)


@pytest.mark.parametrize("sizes", [[16] * 6, [14, 10, 10, 7, 7, 6, 6, 5, 3], [60] + [3] * 20, [3] * 30])
@pytest.mark.parametrize("alike", [0.1, 0.4])
def test_it_holds_the_truth_as_often_as_it_says_and_wilsons_does_not(sizes, alike):
    rng = np.random.default_rng(0)
    sizes, truth, held, by_clip = np.array(sizes), 0.7, 0, 0
    for _ in range(400):
        correct = drawn(sizes, truth, alike, rng)
        low, high = clustered(correct, sizes)
        held += low <= truth <= high
        low, high = wilson(correct.sum() / sizes.sum(), sizes.sum())
        by_clip += low <= truth <= high
    assert held >= 0.93 * 400
    assert by_clip < held


def test_a_mean_of_tasks_and_a_difference_hold_the_truth():
    rng = np.random.default_rng(1)
    sizes, truths, held, ahead, unpaired = np.array([8, 8, 8, 6, 6, 6, 4, 4]), (0.5, 0.7, 0.9), 0, 0, 0
    for _ in range(300):
        rows = []
        for truth in truths:
            own = rng.beta(truth * 4, (1 - truth) * 4, len(sizes))
            rows.append([result(rng.binomial(sizes, own), sizes) for _ in range(2)])
        mean = intervals.mean([intervals.of(one) for one, _ in rows])
        held += mean.low <= np.mean(truths) <= mean.high
        apart = intervals.mean([intervals.difference(*row) for row in rows])
        ahead += apart.low <= 0 <= apart.high
        both = [intervals.mean([intervals.of(row[place]) for row in rows]) for place in (0, 1)]
        unpaired += apart.high - apart.low < both[0].high - both[0].low + both[1].high - both[1].low
    assert held >= 0.93 * 300
    assert ahead >= 0.93 * 300
    assert unpaired == 300


def result(correct, clips):
    low, high = clustered(correct, clips)
    share = correct.sum() / clips.sum()
    by_group = intervals.written(correct, clips)
    return {"accuracy": share, "low": low, "high": high, "by_group": by_group}


def test_a_mean_of_one_is_itself_and_of_four_alike_is_half_as_wide():
    one = Interval(0.5, 0.3, 0.8)
    assert intervals.mean([one]) == pytest.approx(one)
    assert intervals.mean([one] * 4) == pytest.approx((0.5, 0.4, 0.65))
    assert intervals.mean([one, None]) is None
    assert intervals.mean([]) is None


@given(GROUPS)
def test_a_difference_turns_with_its_sides(groups):
    correct, clips = np.array(groups).T
    other = result(correct[::-1] * clips // np.maximum(clips[::-1], 1) // 2, clips)
    mine = result(correct, clips)
    apart, back = intervals.difference(mine, other), intervals.difference(other, mine)
    assert apart == pytest.approx((-back.value, -back.high, -back.low))
    assert apart.low <= apart.value <= apart.high
    assert intervals.difference({**mine, "low": None, "high": None}, other) is None
    assert intervals.difference({**mine, "by_group": ""}, other) is None


def test_what_is_written_is_read():
    correct, clips = np.array([3, 0.5, 4 / 3]), np.array([5, 1, 2])
    assert intervals.written(correct, clips) == "3/5 0.5/1 1.33333/2"
    assert intervals.counts(intervals.written(correct, clips)) == pytest.approx(
        np.array([correct, clips]), abs=1e-5
    )
    assert intervals.counts("").shape == (2, 0)


@pytest.mark.parametrize(
    ("labels", "groups", "nothing"),
    [
        ("aaabbb", "123456", False),
        ("aabb", "1234", False),  # every clip a group of its own
        ("aaabbb", "123111", True),  # b has one
        ("aaabbbb", "1234455", True),  # b has two
        ("aaabbbbb", "12344556", False),
        ("ab", "11", True),  # all are of one
        ("abab", "1122", True),  # of two
        ("ababab", "112233", False),
    ],
)
def test_of_a_class_of_one_or_two_groups_nothing_can_be_said(labels, groups, nothing):
    assert says_nothing(np.array(list(labels)), numbered(list(groups))) == nothing
    found = scored(np.arange(len(labels)) % 2 == 0, list(labels), list(groups))
    assert (found.low is None) == (found.high is None) == nothing
    if nothing:
        assert str(found).endswith(" % (no interval: a class has one or two groups of test clips)")
    assert found.groups == len(set(groups))


def test_accuracies_say_what_they_stand_on():
    found = scored(np.arange(12) % 2 == 0, ["a"] * 12, [*"aaaabbbbccc", ""])
    assert str(found).endswith("; 4 groups)")
    assert found.by_group == "2/4 2/4 2/3 0/1"
    with pytest.raises(ValueError, match="2 test clips, 2 labels and 1 groups"):
        scored(np.array([True, False]), ["a", "b"], ["x"])


def test_probes_take_the_groups_of_the_test_split():
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = rng.standard_normal((80, 5)) + y[:, None]
    groups = np.arange(80) // 8
    by_clip, by_group = (lape.linear_probe(x, y, x, y, test_groups=g) for g in (None, groups))
    assert (by_clip.accuracy, by_clip.groups, by_group.groups) == (by_group.accuracy, 80, 10)
    assert by_group.low < by_clip.low
    assert by_group.high > by_clip.high
    assert lape.majority(y, y, groups).groups == 10
    folds = lape.cross_validate(x, y, groups)
    assert sum(fold.groups for fold in folds) == 10
