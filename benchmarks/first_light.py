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

import argparse
import statistics
from pathlib import Path
from typing import Any

from measure import command, machine
from scipy import stats

import slicer_lite as sl
from slicer_lite.base.files import write_json
from slicer_lite.lape import evaluate
from slicer_lite.probe.compare import differences, fold_accuracies
from slicer_lite.probe.evaluate import TRAINED, UNTRAINED, as_text
from slicer_lite.share.weights import Pretrained, untrained

RESULTS = Path(__file__).parent / "results" / "first_light.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--untrained", type=int, default=24, help="random networks to compare with")
    parser.add_argument("--runs", type=Path, default=Path("runs/first_light"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    clips = sl.load_clips(arguments.data)
    heard = clips.for_pretraining()
    seeds, inside = [], []
    for seed in range(arguments.seeds):
        config = sl.preset("tiny", steps=arguments.steps, seed=seed)
        trained = sl.pretrain(config, clips, arguments.runs / f"seed-{seed}", device="cpu")
        results = evaluate(trained, clips, seed=seed)
        print(as_text(results))
        seeds.append({"seed": seed, "average": results["average"], "tasks": results["tasks"]})
        folds = fold_accuracies(sl.embed(trained.encoder, heard), heard)
        inside.append({"name": TRAINED, "seed": seed, "folds": folds})
    like = sl.load(arguments.runs / "seed-0")  # for its size and the statistics of its input
    random = [random_network(like, clips, seed) for seed in range(arguments.untrained)]
    inside += [{"name": "untrained", "seed": row["seed"], "folds": row["folds"]} for row in random]
    gains = {
        "gain_over_untrained": gain_on_test(seeds, random),
        "gain_inside_the_train_split": differences(inside, "untrained")
        .loc[TRAINED, ["difference", "low", "high"]]
        .to_dict(),
    }
    write_json(
        arguments.out,
        {
            "what": "linear-probe accuracy after a short pre-training of the tiny preset, beside baselines",
            "command": command(),
            "config": sl.preset("tiny", steps=arguments.steps).to_dict(),
            "clips": {
                "trained_on": len(heard),
                "all": len(clips),
                "fingerprint": clips.fingerprint(),
            },
            **gains,
            "inside": inside,
            "seeds": seeds,
            "untrained": [{"seed": row["seed"], "average": row["average"]} for row in random],
            "machine": machine(),
        },
    )
    for name, gain in gains.items():
        difference, low, high = (100 * gain[key] for key in ("difference", "low", "high"))
        print(f"{name}: {difference:.1f} points ({low:.1f} to {high:.1f}); all in {arguments.out}")


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
