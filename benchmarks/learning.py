"""How what is learnt grows along a run, and what it is worth with few labels. Writes results/learning.json.

    python benchmarks/learning.py --data FOLDER --preset tiny [--seeds 3] [--runs FOLDER] [--device cuda --compile]
        [--out FILE]

For each seed the preset is pre-trained on the clips that no task tests on, labels unused. Then, on the test split,
the snapshots along the run are probed, and the last state and two baselines with 5, 10, 20 and all labels a class. It
is the test split: settings are chosen before, with benchmarks/choose.py. Runs are kept, and a second call goes on
with them. docs/learning.svg is drawn from the results of preset tiny, those of another preset are in
results/learning_PRESET.json; with --out neither is touched.
"""

from pathlib import Path

import pandas as pd
from measure import REQUIRED, RESULTS, described, of_seed, parser, read, write_report

import slicer_lite as sl
from slicer_lite import lape
from slicer_lite.explore import figures
from slicer_lite.probe.evaluate import TRAINED, as_text

FIGURE = Path(__file__).parents[1] / "docs" / "learning.svg"


def main() -> None:
    options = parser(
        __doc__, data=REQUIRED, seeds=3, device="cpu", compile=False, runs=Path("runs/choose"), out=None
    )
    options.add_argument("--preset", default="tiny")
    arguments = options.parse_args()
    clips = sl.load_clips(arguments.data)
    config = sl.preset(arguments.preset)
    curves, labels, seeds = [], [], []
    for seed in range(arguments.seeds):
        run = arguments.runs / f"{arguments.preset}-{seed}"
        trained = sl.pretrain(
            config.replace(seed=seed), clips, run, device=arguments.device, compile=arguments.compile
        )
        given = lape.features(trained, clips, seed)
        results = lape.evaluate(trained, clips, seed, given=given)
        print(as_text(results))
        seeds.append(of_seed(seed, results))
        curves.append(lape.learning_curve(run, clips).assign(seed=seed))
        few = lape.label_curve(given, clips)
        few = few.groupby(["features", "count"], sort=False)["accuracy"].mean().reset_index()
        labels.append(few.assign(seed=seed))
    averages = pd.DataFrame([row["average"] for row in seeds]).mean()
    drawn = RESULTS / "learning.json"
    path = arguments.out or (
        drawn if arguments.preset == "tiny" else RESULTS / f"learning_{arguments.preset}.json"
    )
    write_report(
        path,
        "test accuracy of linear probes, mean over tasks: along pre-training, and with few labels",
        config=config.to_dict(),
        clips=described(clips),
        seeds=seeds,
        baselines=averages.drop(TRAINED).to_dict(),
        curve=pd.concat(curves).to_dict("records"),
        labels=pd.concat(labels).to_dict("records"),
    )
    if path == drawn:
        figures.learning(read(path)).savefig(FIGURE)
    print(f"averages: {(100 * averages).round(1).to_dict()}")


if __name__ == "__main__":
    main()
