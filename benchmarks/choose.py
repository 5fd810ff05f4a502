"""Compare settings inside the train split. Adds to results/choose.json.

    python benchmarks/choose.py --data FOLDER --name NAME [--seeds 0 1 2] [--preset tiny] SETTING=VALUE …

Pre-trains on the whole train split without its labels, then probes by grouped five-fold cross-validation inside
that split. This is transductive: the folds' sounds, though not their labels, have been heard in pre-training. The
test split is not touched. Folds are the same for all settings, so results can be compared in pairs.
`--name untrained` and `--name mel` give the baselines. Runs are kept, and a second call
goes on with them; a result takes the place of one of the same name and seed.
"""

import argparse
import ast
import json
import time
from pathlib import Path

import numpy as np
from measure import machine

import slicer_lite as sl
from slicer_lite.embed import mel_statistics
from slicer_lite.files import write_json
from slicer_lite.lape.compare import fold_accuracies
from slicer_lite.views import fit_views
from slicer_lite.weights import Pretrained, untrained

RESULTS = Path(__file__).parent / "results" / "choose.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--runs", type=Path, default=Path("runs/choose"))
    parser.add_argument("settings", nargs="*", metavar="SETTING=VALUE")
    arguments = parser.parse_args()
    pairs = [setting.partition("=") for setting in arguments.settings]
    changes = {name: ast.literal_eval(value) for name, _, value in pairs}
    train = sl.load_clips(arguments.data).for_pretraining()
    for seed in arguments.seeds:
        config = sl.preset(arguments.preset, **changes, seed=seed)
        begun = time.monotonic()
        if arguments.name == "mel":
            features = mel_statistics(train)
        else:
            if arguments.name == "untrained":
                views = fit_views(config, train, device=sl.device.choose_device("cpu"))
                model = untrained(Pretrained(sl.slicer.Network(config), None, config, 0), seed)
                model.encoder.mean.copy_(views.mean)
                model.encoder.deviation.copy_(views.deviation)
            else:
                model = sl.pretrain(config, train, arguments.runs / f"{arguments.name}-{seed}", device="cpu")
            features = sl.embed(model.encoder, train)
        result = {
            "name": arguments.name,
            "config": config.to_dict(),  # whole, since presets change
            "seed": seed,
            "folds": fold_accuracies(features, train),
            "seconds": time.monotonic() - begun,
            "machine": machine(),
        }
        result["average"] = float(np.mean([np.mean(folds) for folds in result["folds"].values()]))
        print(f"{arguments.name} {changes} seed {seed}: {100 * result['average']:.1f}")
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        others = [r for r in found if (r["name"], r["seed"]) != (result["name"], seed)]
        write_json(RESULTS, [*others, result])


if __name__ == "__main__":
    main()
