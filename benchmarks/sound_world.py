"""Are the labels of the sound world in the sound, and not in its average spectrum?

Two readers of the same train and test halves, eight tasks, accuracy on the test half in percent:

- `mean_spectrum`: logistic regression on the mean and the deviation over time of each of 64 log-mel bands. It
  should do badly: under 75 on average.
- `supervised`: an AudioNTT encoder trained from scratch with the labels of all tasks, a head for each
  (`slicer_lite.probe.supervised`). It should do well, over 90 on average: the labels can be heard within windows of
  0.95 s.

    python benchmarks/sound_world.py [--out FILE] [--epochs N] [--clips N]
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
import sklearn
import torch
from measure import RESULTS, parser, write_report
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import slicer_lite as sl
from slicer_lite.method.logmel import LogMel
from slicer_lite.probe.supervised import supervised
from slicer_lite.sounds import TASKS, make_sounds

CHANNELS, DIM = 32, 256


def mean_spectrum(clips: sl.Clips) -> dict[str, float]:
    """Test accuracy of each task from time averages only, over whole clips."""
    log_mel = LogMel()
    lms = [log_mel(torch.from_numpy(clips[i])[None])[0, 0] for i in range(len(clips))]  # (64, T) each
    features = np.stack([torch.cat([x.mean(1), x.std(1)]).numpy() for x in lms])  # (N, 128)
    accuracy = {}
    for task in TASKS:
        train, test = (clips.rows[mine] for mine in halves(clips, task))
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        probe.fit(features[train["clip"]], train["label"])
        accuracy[task] = 100 * float(probe.score(features[test["clip"]], test["label"]))
    return accuracy


def halves(clips: sl.Clips, task: str) -> list[np.ndarray]:
    """Which of the rows are of a task's train split, and which of its test split."""
    mine = clips.rows["task"] == task
    return [(mine & (clips.rows["split"] == split)).to_numpy() for split in ("train", "test")]


def main() -> None:
    options = parser(__doc__, out=RESULTS / "sound_world.json")
    options.add_argument("--epochs", type=int, default=40, help="of the supervised encoder")
    options.add_argument("--clips", type=int, default=3200)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        begin = time.perf_counter()
        folder = make_sounds(Path(temporary) / "world", arguments.clips)
        making = time.perf_counter() - begin
        os.environ["SLICER_LITE_CACHE"] = temporary  # the decoded clips go with the folder
        clips = sl.load_clips(folder)
    results = {"mean_spectrum": mean_spectrum(clips)}
    begin = time.perf_counter()
    found = supervised(clips, clips.rows, CHANNELS, DIM, arguments.epochs, validate=False, progress=True)
    results["supervised"] = {task: 100 * accuracy.accuracy for task, accuracy in found.items()}
    training = time.perf_counter() - begin
    for name, accuracy in results.items():
        accuracy["average"] = float(np.mean(list(accuracy.values())))
        print(f"{name:14}", "  ".join(f"{task} {value:.1f}" for task, value in accuracy.items()))
    train, test = ({task: int(halves(clips, task)[i].sum()) for task in TASKS} for i in (0, 1))
    write_report(
        arguments.out,
        "test accuracy in percent; see benchmarks/sound_world.py",
        wanted={"mean_spectrum": "average under 75", "supervised": "average over 90"},
        accuracy={name: {k: round(v, 1) for k, v in a.items()} for name, a in results.items()},
        chance={task: round(100 / len(labels), 1) for task, labels in TASKS.items()},
        test_clips=test,
        train_clips=train,
        clips=arguments.clips,
        mean_seconds=round(float(np.mean([len(clips[i]) for i in range(len(clips))])) / 16_000, 3),
        encoder={"channels": CHANNELS, "dim": DIM, "epochs": arguments.epochs},
        seconds={"making": round(making, 1), "training": round(training, 1)},
        versions={module.__name__: module.__version__ for module in (np, scipy, sklearn)},
    )


if __name__ == "__main__":
    main()
