"""How often do 95 % intervals of an accuracy hold the truth, if clips come in groups? Writes results/intervals.json.

    python benchmarks/intervals.py [--draws 600] [--out FILE]

Test splits are drawn with the group sizes of the recordings' tasks, and of some that are harder. The accuracy of each
group is drawn anew (beta distributed around the truth, so that two clips of a group correlate by a given amount), and
the clips of a group independently. Candidates for the interval of the accuracy:

- *Wilson*: clips are taken as independent;
- *bootstrap*: percentiles over groups drawn with replacement; also its hull with Wilson's;
- *design effect*: Wilson's of as many clips as the groups are worth, by the variance of the ratio over groups; with a
  normal quantile or Student's, of groups less one;
- *chosen*: `slicer_lite.probe.intervals.clustered`.

Then its mean over three tasks, and the difference of two probes of the same clips, as reports show them.
"""

from collections.abc import Callable

import numpy as np
from measure import RESULTS, parser, write_report
from scipy.stats import norm, t

from slicer_lite.probe import intervals
from slicer_lite.probe.intervals import clustered, wilson

SIZES = {
    "emotion: 6 x 16": [16] * 6,
    "bird: 9, of 3 to 14": [14, 10, 10, 7, 7, 6, 6, 5, 3],
    "speaker: 39, of 2 or 3": [3] * 26 + [2] * 13,
    "keyword: 56, of 1 to 5": [5] + [4] * 9 + [3] * 10 + [2] * 7 + [1] * 29,
    "urban: 83, of 1 or 2": [2] * 7 + [1] * 76,
    "3, of 10, 20 and 30": [10, 20, 30],
    "one of 60, and 20 of 3": [60] + [3] * 20,
}
TRUTHS, ALIKE = (0.3, 0.6, 0.9), (0.0, 0.1, 0.3, 0.6)

Bounds = tuple[float, float]
Candidate = Callable[[np.ndarray, np.ndarray, np.random.Generator], Bounds]


def of_clips(correct: np.ndarray, clips: np.ndarray, _: np.random.Generator) -> Bounds:
    return wilson(correct.sum() / clips.sum(), clips.sum())


def bootstrap(correct: np.ndarray, clips: np.ndarray, rng: np.random.Generator) -> Bounds:
    chosen = rng.integers(0, len(clips), (500, len(clips)))
    low, high = np.quantile(correct[chosen].sum(1) / clips[chosen].sum(1), (0.025, 0.975))
    return low, high


def hull(correct: np.ndarray, clips: np.ndarray, rng: np.random.Generator) -> Bounds:
    ours, theirs = bootstrap(correct, clips, rng), of_clips(correct, clips, rng)
    return min(ours[0], theirs[0]), max(ours[1], theirs[1])


def by_effect(student: bool) -> Candidate:
    def interval(correct: np.ndarray, clips: np.ndarray, _: np.random.Generator) -> Bounds:
        number, groups = clips.sum(), len(clips)
        share = correct.sum() / number
        spread = ((correct - share * clips) ** 2).sum() * groups / (groups - 1)
        effect = max(spread / (number * share * (1 - share)), 1.0) if 0 < share < 1 else 1.0
        quantile = t.ppf(0.975, groups - 1) if student else norm.ppf(0.975)
        return wilson(share, number / effect, float(quantile))

    return interval


CANDIDATES: dict[str, Candidate] = {
    "Wilson": of_clips,
    "bootstrap": bootstrap,
    "bootstrap and Wilson": hull,
    "design effect, normal": by_effect(False),
    "design effect, Student": by_effect(True),
    "chosen": lambda correct, clips, _: clustered(correct, clips),
}


def own_accuracies(truth: float, alike: float, groups: int, rng: np.random.Generator) -> np.ndarray:
    """`(groups,)` what each group's accuracy is, such that clips of one group correlate by `alike`."""
    if alike == 0:
        return np.full(groups, truth)
    within = (1 - alike) / alike
    return rng.beta(truth * within, (1 - truth) * within, groups)


def coverage(
    sizes: list[int], alike: float, draws: int, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Of each candidate, how many intervals hold the truth: mean and least over `TRUTHS`; and their width."""
    clips = np.array(sizes)
    held: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    width: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for truth in TRUTHS:
        samples = [rng.binomial(clips, own_accuracies(truth, alike, len(clips), rng)) for _ in range(draws)]
        for name, interval in CANDIDATES.items():
            low, high = np.array([interval(correct, clips, rng) for correct in samples]).T
            held[name].append(float(((low <= truth + 1e-9) & (truth - 1e-9 <= high)).mean()))
            width[name].append(float((high - low).mean()))
    return {
        name: {
            "mean": float(np.mean(held[name])),
            "least": min(held[name]),
            "width": float(np.mean(width[name])),
        }
        for name in CANDIDATES
    }


def over_tasks(alike: float, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Coverage of the mean of three tasks, and of the mean difference of two probes that are equally good."""
    shapes = [
        np.array(SIZES[name]) for name in ("emotion: 6 x 16", "bird: 9, of 3 to 14", "speaker: 39, of 2 or 3")
    ]
    mean = apart = 0
    for _ in range(draws):
        rows = []
        for clips, truth in zip(shapes, TRUTHS, strict=True):
            own = own_accuracies(
                truth, alike, len(clips), rng
            )  # what is hard for one probe is so for the other
            rows.append([cell(rng.binomial(clips, own), clips) for _ in range(2)])
        found = intervals.mean([intervals.of(one) for one, _ in rows])
        between = intervals.mean([intervals.difference(*row) for row in rows])
        assert found and between
        mean += found.low <= np.mean(TRUTHS) <= found.high
        apart += between.low <= 0 <= between.high
    return {"mean": float(mean / draws), "difference": float(apart / draws)}


def cell(correct: np.ndarray, clips: np.ndarray) -> dict[str, object]:
    low, high = clustered(correct, clips)
    share = correct.sum() / clips.sum()
    return {"accuracy": share, "low": low, "high": high, "by_group": intervals.written(correct, clips)}


def main() -> None:
    options = parser(__doc__, out=RESULTS / "intervals.json")
    options.add_argument("--draws", type=int, default=600)
    arguments = options.parse_args()
    rng = np.random.default_rng(0)
    found = {
        name: {str(alike): coverage(sizes, alike, arguments.draws, rng) for alike in ALIKE}
        for name, sizes in SIZES.items()
    }
    tasks = {str(alike): over_tasks(alike, arguments.draws, rng) for alike in ALIKE}
    write_report(
        arguments.out,
        "share of 95 % intervals that hold the truth, of simulated test splits",
        draws=arguments.draws,
        truths=TRUTHS,
        coverage=found,
        **{"three tasks": tasks},
    )
    print(f"{'mean (least) over truths':26}" + "".join(f"{name:>24}" for name in CANDIDATES))
    for name, by_alike in found.items():
        for alike, row in by_alike.items():
            cells = [
                f"{100 * c['mean']:.0f} ({100 * c['least']:.0f}), {100 * c['width']:.0f} wide"
                for c in row.values()
            ]
            print(f"{name:22} {alike:3}" + "".join(f"{text:>24}" for text in cells))
    print(tasks)


if __name__ == "__main__":
    main()
