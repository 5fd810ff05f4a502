"""Does pre-training help with sounds that it has not heard? Writes results/unheard.json.

    python benchmarks/unheard.py --data FOLDER [--steps 200] [--runs FOLDER] [--trainers 2] [--out FILE]

What benchmarks/choose.py measures inside the train split is transductive: the sounds that probes are tested on have
been heard in pre-training. Here preset tiny is pre-trained five times, each time without one fold of every task
(the seed is the fold's number), and each network is probed on all folds. *Unheard* is its accuracy on the fold that
it was trained without, *heard* the mean of the other four networks on the same fold. Both are compared with the
untrained networks of results/first_light.json. Labels are not used in pre-training, and the test split is not
touched.
"""

from pathlib import Path

import numpy as np
from measure import REQUIRED, RESULTS, gain, in_points, parser, processes, read, write_report

import slicer_lite as sl
from slicer_lite.probe.compare import fold_accuracies
from slicer_lite.probe.linear import split_folds

FOLDS = 5

Folds = dict[str, list[float]]  # of each task, the accuracy of each fold


def held_out(clips: sl.Clips, fold: int) -> np.ndarray:
    """Clips that some task's probes, as in `fold_accuracies`, are tested on in a fold."""
    found: set[int] = set()
    for task in clips.tasks:
        rows = clips.rows[clips.rows["task"] == task]
        splits = split_folds(rows["label"].to_numpy(str), rows["group"].to_numpy(str), FOLDS, 0)
        if fold < len(splits):  # few groups make few folds
            found |= set(rows["clip"].to_numpy()[splits[fold][1]].tolist())
    return np.array(sorted(found))


def without(fold: int, data: str, steps: int, runs: Path) -> tuple[int, Folds]:
    """How many clips a network that never hears a fold is trained on, and its accuracies on all folds."""
    train = sl.load_clips(data, progress=False).for_pretraining()
    heard = np.setdiff1d(np.arange(len(train)), held_out(train, fold))
    config = sl.preset("tiny", steps=steps, seed=fold)
    model = sl.pretrain(config, train.subset(heard), runs / f"without-{fold}", device="cpu", progress=False)
    return len(heard), fold_accuracies(sl.embed(model.encoder, train), train)


def sorted_by_hearing(networks: list[Folds]) -> dict[str, Folds]:
    """`heard` and `unheard`, fold by fold, from the accuracies of the network without each fold."""
    found: dict[str, Folds] = {"heard": {}, "unheard": {}}
    for task in networks[0]:
        accuracy = np.array([network[task] for network in networks])  # (network, fold)
        folds = range(accuracy.shape[1])
        found["unheard"][task] = [float(accuracy[fold, fold]) for fold in folds]
        found["heard"][task] = [float(np.delete(accuracy[:, fold], fold).mean()) for fold in folds]
    return found


def main() -> None:
    options = parser(
        __doc__, data=REQUIRED, steps=200, runs=Path("runs/unheard"), out=RESULTS / "unheard.json"
    )
    options.add_argument("--trainers", type=int, default=2, help="processes of one thread each")
    arguments = options.parse_args()
    sl.load_clips(arguments.data)  # decoded once, before several want it
    with processes(arguments.trainers) as pool:
        calls = [
            pool.submit(without, fold, arguments.data, arguments.steps, arguments.runs)
            for fold in range(FOLDS)
        ]
        clips, networks = zip(*[call.result() for call in calls], strict=True)
    by_hearing = sorted_by_hearing(list(networks))
    first = read(RESULTS / "first_light.json")
    random = [row["folds"] for row in first["inside"] if row["name"] == "untrained"]
    by_hearing["untrained"] = {
        task: np.mean([folds[task] for folds in random], axis=0).tolist() for task in random[0]
    }
    # One row a side: five networks are behind it, so that the spread over folds holds the luck of their seeds, too,
    # but for what a network's luck does to all nine tasks alike.
    rows = [{"name": name, "seed": 0, "folds": folds} for name, folds in by_hearing.items()]
    gains = {
        "unheard_over_untrained": gain(rows, "unheard", "untrained"),
        "heard_over_untrained": gain(rows, "heard", "untrained"),
        "heard_over_unheard": gain(rows, "heard", "unheard"),
    }
    averages = {
        name: float(np.mean([np.mean(task) for task in folds.values()])) for name, folds in by_hearing.items()
    }
    write_report(
        arguments.out,
        "linear-probe accuracy inside the train split, of sounds heard and not heard in pre-training",
        config=sl.preset("tiny", steps=arguments.steps).to_dict(),
        clips_trained_on=clips,
        average=averages,
        **gains,
        folds=by_hearing,
        networks=networks,
    )
    for name, average in averages.items():
        print(f"{name}: {100 * average:.1f}")
    for name, found in gains.items():
        print(f"{name}: {in_points(found)}")


if __name__ == "__main__":
    main()
