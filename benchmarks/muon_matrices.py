"""Which matrices should Muon take? All, or hidden layers only, as published. Writes results/muon_matrices.json.

    python benchmarks/muon_matrices.py --data FOLDER [--seeds 3] [--steps 200] [--out FILE]

As published, the first layer and the last ones are AdamW's: here the first convolution, which has one channel of
input, and the last layers of both heads. Both ways are trained with the same seeds and probed inside the train split,
as choose.py does; the test split is not touched. What the file already has is not done again.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from measure import REQUIRED, RESULTS, parser, read, write_report
from torch import nn

import slicer_lite as sl
from slicer_lite.probe.compare import fold_accuracies
from slicer_lite.training.muon import Muon

ALL, HIDDEN = "all matrices", "hidden layers only"


def is_hidden(weight: nn.Parameter, config: sl.Config) -> bool:
    """Of a matrix, whether neither sound goes in nor keys or assignments come out."""
    first = weight.ndim == 4 and weight.shape[1] == 1
    last = weight.ndim == 2 and weight.shape[0] in (config.projection_dim, config.clusters)
    return not first and not last


@contextmanager
def taking(way: str, config: sl.Config) -> Iterator[None]:
    """Within, Muon takes the matrices of that way, and AdamW the others."""
    step = Muon.step

    def hidden_alone(self: Muon, closure: object = None) -> None:
        weights = [
            weight for group in self.param_groups for weight in group["params"] if weight.grad is not None
        ]
        others = [weight for weight in weights if weight.ndim > 1 and not is_hidden(weight, config)]
        gradients = [weight.grad for weight in others]
        for weight in others:
            weight.grad = None
        step(self)  # hidden layers, and vectors
        vectors = [(weight, weight.grad) for weight in weights if weight.ndim == 1]
        for weight, _ in vectors:
            weight.grad = None
        for weight, gradient in zip(others, gradients, strict=True):
            weight.grad = gradient
        torch.optim.AdamW.step(self)
        for weight, gradient in vectors:
            weight.grad = gradient

    Muon.step = hidden_alone if way == HIDDEN else step
    try:
        yield
    finally:
        Muon.step = step


def main() -> None:
    arguments = parser(
        __doc__, data=REQUIRED, seeds=3, steps=200, out=RESULTS / "muon_matrices.json"
    ).parse_args()
    torch.set_num_threads(1)
    train = sl.load_clips(arguments.data).for_pretraining()
    config = sl.preset("tiny", steps=arguments.steps)
    runs = read(arguments.out, {"runs": []})["runs"]
    have = {(run["name"], run["seed"]) for run in runs}
    for seed in range(arguments.seeds):
        for way in (ALL, HIDDEN):
            if (way, seed) in have:
                continue
            seeded = config.replace(seed=seed)
            with tempfile.TemporaryDirectory() as folder, taking(way, seeded):
                model = sl.pretrain(seeded, train, Path(folder) / "run", device="cpu", progress=False)
            folds = fold_accuracies(sl.embed(model.encoder, train), train)
            average = float(np.mean([np.mean(accuracies) for accuracies in folds.values()]))
            print(f"{way}, seed {seed}: {100 * average:.1f}", flush=True)
            runs.append({"name": way, "seed": seed, "average": average, "folds": folds})
            write_report(
                arguments.out,
                "inside accuracies, by the matrices that Muon takes",
                config=config.to_dict(),
                runs=runs,
            )


if __name__ == "__main__":
    main()
