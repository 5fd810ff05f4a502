"""Compare settings inside the train split. Adds to results/choose.json.

    python benchmarks/choose.py --data FOLDER --name NAME SETTING=VALUE … [--seeds 0 1 2] [--preset tiny]
    python benchmarks/choose.py --data FOLDER --plan PLAN.json [--device cuda --compile --trainers 8 --probers 8]

Pre-trains on the whole train split without its labels, then probes by grouped five-fold cross-validation inside
that split. This is transductive: the folds' sounds, though not their labels, have been heard in pre-training. The
test split is not touched. Folds are the same for all settings, so results can be compared in pairs.
`--name untrained` and `--name mel` give the baselines. Runs are kept, and a second call goes on with them (without
noting seconds). What the file already has is not done again; one of the same name and seed, with other settings, is
in the way.

A plan is `{"preset": …, "seeds": […], "base": {SETTING: VALUE}, "settings": {NAME: {SETTING: VALUE}}}`; `base` is
changed in all of its settings, and the setting `share` pre-trains on that share of the clips, drawn by the seed.
Trainers are processes that share the device, probers processes of one CPU thread each.
"""

import ast
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import REQUIRED, RESULTS, machine, parser, processes, read, write

import slicer_lite as sl
from slicer_lite.base.device import choose_device
from slicer_lite.base.randomness import generator
from slicer_lite.explore.embed import mel_statistics
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.method.views import fit_views
from slicer_lite.probe.compare import fold_accuracies
from slicer_lite.share.weights import Pretrained, untrained


@dataclass(frozen=True)
class Job:
    """One pre-training run."""

    name: str
    config: sl.Config
    share: float  # of the clips, to pre-train on
    data: str
    run: Path
    device: str
    compile: bool

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.config.seed


def features(job: Job) -> tuple[np.ndarray, float | None]:
    """Embeddings of the whole train split `(N, D)`, and the seconds of a pre-training that began here."""
    train = sl.load_clips(job.data, progress=False).for_pretraining()
    begun = time.monotonic()
    if job.name == "mel":
        return mel_statistics(train), None
    if job.name == "untrained":
        views = fit_views(job.config, train, device=torch.device("cpu"))
        model = untrained(Pretrained(SLICERNetwork(job.config), None, job.config, 0), job.config.seed)
        model.encoder.mean.copy_(views.mean)
        model.encoder.deviation.copy_(views.deviation)
        return sl.embed(model.encoder, train), None
    heard = train
    if job.share < 1:
        drawn = torch.randperm(len(train), generator=generator(job.config.seed, 0, "share of the clips"))
        heard = train.subset(drawn[: round(job.share * len(train))].sort().values.numpy())
    begun_before = job.run.exists()
    model = sl.pretrain(job.config, heard, job.run, device=job.device, progress=False, compile=job.compile)
    taken = None if begun_before else time.monotonic() - begun
    return sl.embed(model.encoder.to(choose_device(job.device)), train), taken


def same(result: dict[str, Any], job: Job) -> bool:
    """Whether a stored result is of the settings of a job; those that it was stored without were as they are now."""
    return {**sl.Config().to_dict(), **result["config"]} == job.config.to_dict() and result[
        "share"
    ] == job.share


def value_of(value: str) -> Any:
    """A number, True or False, or else the word itself."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def probe(job: Job, x: np.ndarray) -> dict[str, list[float]]:
    return fold_accuracies(x, sl.load_clips(job.data, progress=False).for_pretraining())


def done(
    jobs: list[Job], trainers: int, probers: int
) -> Iterator[tuple[Job, float | None, dict[str, list[float]]]]:
    """Each job with the seconds of its pre-training and its folds, as they come; not those that failed."""
    with processes(trainers) as training, processes(probers) as probing:
        trained: dict[Future[Any], Job] = {training.submit(features, job): job for job in jobs}
        probed: dict[Future[Any], tuple[Job, float | None]] = {}
        while trained or probed:
            for future in wait([*trained, *probed], return_when=FIRST_COMPLETED).done:
                if (error := future.exception()) is not None:  # the others go on
                    job = trained.pop(future, None) or probed.pop(future)[0]
                    print(f"{job.name} seed {job.config.seed} failed: {error!r}", flush=True)
                elif future in trained:
                    job = trained.pop(future)
                    x, taken = future.result()
                    probed[probing.submit(probe, job, x)] = job, taken
                else:
                    yield *probed.pop(future), future.result()


def main() -> None:
    options = parser(
        __doc__,
        data=REQUIRED,
        device="cpu",
        compile=False,
        runs=Path("runs/choose"),
        out=RESULTS / "choose.json",
    )
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument("--name")
    what.add_argument("--plan", type=Path)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--preset", default="tiny")
    options.add_argument("--trainers", type=int, default=1)
    options.add_argument("--probers", type=int, default=1)
    options.add_argument("settings", nargs="*", metavar="SETTING=VALUE")
    arguments = options.parse_args()
    if arguments.plan:
        plan = read(arguments.plan)
    else:
        pairs = [setting.partition("=") for setting in arguments.settings]
        changes = {name: value_of(value) for name, _, value in pairs}
        plan = {
            "preset": arguments.preset,
            "seeds": arguments.seeds,
            "base": {},
            "settings": {arguments.name: changes},
        }
    have = {(result["name"], result["seed"]): result for result in read(arguments.out, [])}
    jobs = []
    for seed in plan["seeds"]:
        for name, changes in plan["settings"].items():
            changes = {**plan["base"], **changes, "seed": seed}
            share = changes.pop("share", 1.0)
            config = sl.preset(plan["preset"], **changes)
            run = arguments.runs / f"{name}-{seed}"
            jobs.append(Job(name, config, share, arguments.data, run, arguments.device, arguments.compile))
    for job in jobs:
        there = have.get(job.key)
        if there and not same(there, job):
            raise SystemExit(
                f"{arguments.out} has another {job.name!r} of seed {job.config.seed}: choose another name, or take "
                "that result out of the file first."
            )
    jobs = [job for job in jobs if job.key not in have]
    sl.load_clips(arguments.data)  # decoded once, before several want it
    failed = {job.key for job in jobs}
    for job, taken, folds in done(jobs, arguments.trainers, arguments.probers):
        failed.remove(job.key)
        result = {
            "name": job.name,
            "config": job.config.to_dict(),  # whole, since presets change
            "share": job.share,
            "seed": job.config.seed,
            "folds": folds,
            "seconds": taken,
            "machine": machine(),
        }
        result["average"] = float(np.mean([np.mean(accuracies) for accuracies in folds.values()]))
        print(f"{job.name} seed {job.config.seed}: {100 * result['average']:.1f}", flush=True)
        # Read anew: another call may have added to it meanwhile.
        others = [r for r in read(arguments.out, []) if (r["name"], r["seed"]) != job.key]
        write(arguments.out, [*others, result])
    if failed:
        raise SystemExit(f"{len(failed)} of {len(jobs)} failed: see above.")


if __name__ == "__main__":
    main()
