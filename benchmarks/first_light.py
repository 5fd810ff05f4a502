"""Does SLICER learn in 200 steps on real recordings, and how fast? Writes results/first_light.json.

    python benchmarks/first_light.py --data FOLDER [--steps 200] [--seeds 3] [--runs FOLDER]

FOLDER is a set of labelled recordings with a manifest.csv. For each seed the tiny preset is pre-trained on the
clips that no task tests on, labels unused; then every task is probed beside the baselines, on the test split and,
since that is small, also by cross-validation inside the train split, as benchmarks/choose.py does. The settings were
fixed before, so the test split is opened once for each seed. Runs are kept, and a second call goes on with them.
"""

import argparse
import statistics
from pathlib import Path

import torch
from measure import machine, seconds, spread

import slicer_lite as sl
from slicer_lite.device import autocast
from slicer_lite.files import write_json
from slicer_lite.lape import evaluate
from slicer_lite.lape.compare import differences, fold_accuracies
from slicer_lite.lape.report import TRAINED, UNTRAINED, as_text
from slicer_lite.train import Training
from slicer_lite.weights import untrained

RESULTS = Path(__file__).parent / "results" / "first_light.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/first_light"))
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
        for name, model in {TRAINED: trained, "untrained": untrained(trained, seed)}.items():
            inside.append(
                {"name": name, "seed": seed, "folds": fold_accuracies(sl.embed(model.encoder, heard), heard)}
            )
    gain = differences(inside, "untrained").loc[TRAINED, ["difference", "low", "high"]]
    gains = [row["average"][TRAINED] - row["average"][UNTRAINED] for row in seeds]
    write_json(
        RESULTS,
        {
            "what": "linear-probe accuracy after a short pre-training of the tiny preset, beside baselines",
            "command": f"python benchmarks/first_light.py --data FOLDER --steps {arguments.steps}",
            "config": sl.preset("tiny", steps=arguments.steps).to_dict(),
            "clips": {
                "trained_on": len(heard),
                "all": len(clips),
                "fingerprint": clips.fingerprint(),
            },
            "gain_over_untrained": {
                "mean": statistics.mean(gains),
                "deviation": statistics.stdev(gains) if len(gains) > 1 else None,
                "seeds": gains,
            },
            "gain_inside_the_train_split": gain.to_dict(),
            "inside": inside,
            "seeds": seeds,
            "speed": speed(heard, arguments.runs / "speed"),
            "machine": machine(),
        },
    )
    print(
        f"gain over the untrained encoder: {100 * statistics.mean(gains):.1f} points, inside the train split "
        f"{100 * gain['difference']:.1f} ({100 * gain['low']:.1f} to {100 * gain['high']:.1f}); all in {RESULTS}"
    )


def speed(clips: sl.Clips, run: Path, repeats: int = 10) -> dict[str, object]:
    """Clips per second of whole training steps, and the share of them that is not the model's."""
    config = sl.preset("tiny")
    run.mkdir(parents=True, exist_ok=True)
    training = Training(config, clips, run, torch.device("cpu"))
    training.model.train()
    view1, view2 = torch.randn(2, config.batch_size, 1, 64, 96).unbind(0)
    ids = torch.arange(config.batch_size)

    def model_only() -> None:
        with autocast(config, training.device):
            loss = training.model.loss(view1, view2, ids)["total"]
        loss.backward()
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)

    whole, model = seconds(training.one_step, model_only, repeats=repeats)
    rates = [config.batch_size / took for took in whole]
    outside = [1 - m / w for m, w in zip(model, whole, strict=True)]
    return {
        "clips_per_second": spread(rates),
        "share_outside_the_model": spread(outside),
        "repeats": repeats,
        "load": "whole training steps of the tiny preset, batch 256, from the store",
    }


if __name__ == "__main__":
    main()
