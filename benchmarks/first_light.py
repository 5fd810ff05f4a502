"""Does SLICER learn in 200 steps on real recordings? Writes results/first_light.json.

    python benchmarks/first_light.py --data FOLDER [--steps 200] [--seeds 3] [--untrained 24] [--runs FOLDER]
        [--out FILE]

FOLDER is a set of labelled recordings with a manifest.csv. For each seed the tiny preset is pre-trained on the
clips that no task tests on, labels unused; then every task is probed beside the baselines, on the test split and,
since that is small, also by cross-validation inside the train split, as benchmarks/choose.py does. The settings were
fixed before, so the test split is opened once for each seed. Runs are kept, and a second call goes on with them.

What an untrained encoder reaches depends much on the weights that it happens to be given. The gain is therefore
over the mean of many random networks, which cost nothing to train.
"""

import statistics
from pathlib import Path
from typing import Any

from measure import REQUIRED, RESULTS, described, gain, in_points, of_seed, parser, write_report
from scipy import stats

import slicer_lite as sl
from slicer_lite.lape import evaluate
from slicer_lite.probe.compare import fold_accuracies
from slicer_lite.probe.evaluate import TRAINED, UNTRAINED, as_text
from slicer_lite.share.weights import Pretrained, untrained


def main() -> None:
    options = parser(
        __doc__,
        data=REQUIRED,
        steps=200,
        seeds=3,
        runs=Path("runs/first_light"),
        out=RESULTS / "first_light.json",
    )
    options.add_argument("--untrained", type=int, default=24, help="random networks to compare with")
    arguments = options.parse_args()
    clips = sl.load_clips(arguments.data)
    heard = clips.for_pretraining()
    seeds, inside = [], []
    for seed in range(arguments.seeds):
        config = sl.preset("tiny", steps=arguments.steps, seed=seed)
        trained = sl.pretrain(config, clips, arguments.runs / f"seed-{seed}", device="cpu")
        results = evaluate(trained, clips, seed=seed)
        print(as_text(results))
        seeds.append(of_seed(seed, results))
        folds = fold_accuracies(sl.embed(trained.encoder, heard), heard)
        inside.append({"name": TRAINED, "seed": seed, "folds": folds})
    like = sl.load(arguments.runs / "seed-0")  # for its size and the statistics of its input
    random = [random_network(like, clips, seed) for seed in range(arguments.untrained)]
    inside += [{"name": "untrained", "seed": row["seed"], "folds": row["folds"]} for row in random]
    gains = {
        "gain_over_untrained": gain_on_test(seeds, random),
        "gain_inside_the_train_split": gain(inside, TRAINED, "untrained"),
    }
    write_report(
        arguments.out,
        "linear-probe accuracy after a short pre-training of the tiny preset, beside baselines",
        config=sl.preset("tiny", steps=arguments.steps).to_dict(),
        clips=described(clips),
        **gains,
        inside=inside,
        seeds=seeds,
        untrained=[{"seed": row["seed"], "average": row["average"]} for row in random],
    )
    for name, found in gains.items():
        print(f"{name}: {in_points(found)}")


def random_network(like: Pretrained, clips: sl.Clips, seed: int) -> dict[str, Any]:
    """Test accuracy, averaged over tasks, and folds inside the train split, of random weights."""
    encoder = untrained(like, seed).encoder
    given = {UNTRAINED: sl.embed(encoder, clips)}
    heard = clips.for_pretraining()
    return {
        "seed": seed,
        "average": evaluate(like, clips, seed, given=given)["average"][UNTRAINED],
        "folds": fold_accuracies(sl.embed(encoder, heard), heard),
    }


def gain_on_test(trained: list[dict[str, Any]], random: list[dict[str, Any]]) -> dict[str, float]:
    """Mean of the seeds minus mean of the random networks, with Welch's 95 % interval.

    The interval is of training and of random weights, on these test clips: another draw of clips is not in it.
    """
    found = stats.ttest_ind(
        [row["average"][TRAINED] for row in trained], [row["average"] for row in random], equal_var=False
    )
    interval = found.confidence_interval()
    mean = statistics.mean(row["average"][TRAINED] for row in trained) - statistics.mean(
        row["average"] for row in random
    )
    return {"difference": mean, "low": float(interval.low), "high": float(interval.high)}


if __name__ == "__main__":
    main()
