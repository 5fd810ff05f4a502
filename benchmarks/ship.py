"""Train the weights that come with the package, and write them and their card into slicer_lite/share/pretrained/.

    python benchmarks/ship.py --data FOLDER --name tiny [--steps N] [--runs FOLDER]
    python benchmarks/ship.py --data FOLDER --name tiny --note

They learn from the train split of the embedded sound world and from those recordings of FOLDER (a set with a
manifest.csv that names sources and licences) that are free to use for anything: CC0, public domain, CC BY, CC BY-SA.
Without --data they learn from the sound world alone, which needs no recordings. Scores on FOLDER's test split are
measured on the file as it is shipped, in half precision. With --note nothing is trained: the weights that are there
get a new note of what they have heard, and every number and the card stay as they are.
"""

import dataclasses
import re
from collections import Counter
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd
from measure import machine, parser

import slicer_lite as sl
from slicer_lite.audio.table import Table, make_table, read_table
from slicer_lite.lape import TASKS, evaluate
from slicer_lite.probe.evaluate import PLAIN, TRAINED, UNTRAINED, basis, shown
from slicer_lite.share.heard import Heard, mark_of_name
from slicer_lite.share.weights import SHIPPED, SUFFIX, save_weights

FREE = re.compile(r"CC0|Public Domain|CC BY(-SA)?( \d\.\d| \(version not stated\))?")


def main() -> None:
    options = parser(__doc__, data=None, steps=None, runs=Path("runs/ship"))
    options.add_argument("--name", default="tiny", choices=["tiny", "small"])
    options.add_argument("--note", action="store_true")
    arguments = options.parse_args()
    world = read_table("sounds")
    recordings = pd.DataFrame(columns=["path", "source", "licence"])
    if arguments.data is not None:
        recordings = free_recordings(Path(arguments.data))
    config = sl.preset(arguments.name)
    if arguments.steps is not None:
        config = config.replace(steps=arguments.steps)
    sounds = [path for path, split in zip(world.paths, world.split, strict=True) if split == "train"]
    files = [*sounds, *(Path(arguments.data) / path for path in recordings["path"])]
    clips = sl.load_clips(unlabelled(files), strict=True)
    # Clips that were cut are no longer the sound that their data set has: those go by their names there.
    heard = dataclasses.replace(
        Heard.of(clips), names=frozenset(map(mark_of_name, names_at_source(recordings)))
    )
    SHIPPED.mkdir(exist_ok=True)
    path = SHIPPED / f"{arguments.name}{SUFFIX}"
    model = (
        sl.load(path)
        if arguments.note
        else sl.pretrain(config, clips, arguments.runs / arguments.name, device="cpu")
    )
    save_weights(path, model.network.half(), model.centroids, model.config, model.step, heard)
    if arguments.note:
        return
    scores = "Not measured."
    if arguments.data is not None:
        scores = as_table(evaluate(sl.load(path), sl.load_clips(arguments.data)))
    path.with_suffix(".md").write_text(card(arguments.name, sl.load(path), len(sounds), recordings, scores))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def free_recordings(folder: Path) -> pd.DataFrame:
    """Rows of the manifest, one a clip, that are free to use for anything and that no task tests on."""
    rows = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    tested = set(rows.loc[rows["split"] != "train", "path"])
    free = rows["licence"].map(lambda licence: FREE.fullmatch(licence) is not None)
    return rows[free & ~rows["path"].isin(tested)].drop_duplicates("path")


def names_at_source(recordings: pd.DataFrame) -> list[str]:
    """The name, in its data set, of what each recording was cut from, where the recording's own name still tells it.

    `keyword/down_189cbabe_nohash_1.flac` is `down/189cbabe_nohash_1` of Speech Commands, and
    `speaker/spk19_19-227-0014_0.ogg` is a piece of `227/19-227-0014` of LibriSpeech.
    """
    names = set()
    for path in recordings["path"]:
        if found := re.search(r"/([a-z]+)_([0-9a-f]{8}_nohash_\d+)\.", path):
            names.add(f"{found[1]}/{found[2]}")
        elif found := re.search(r"_(\d+-(\d+)-\d+)_\d+\.", path):
            names.add(f"{found[2]}/{found[1]}")
    return sorted(names)


def of_public_sets(names: list[str]) -> str:
    """What was heard of data sets that others test on, for the card."""
    if not names:
        return "Of public data sets nothing was heard."
    words = sum("_nohash_" in name for name in names)
    pieces = len(names) - words
    tested = TASKS["sc_v2_35"].published["test"]
    return f"""\
Of public test sets they have heard, cut shorter, {words} of the {tested:,} test clips of Speech Commands v2, from
which all recordings of the task keyword are, and pieces of {pieces} utterances of LibriSpeech's test-other and
train-clean-100. Hashes of all that was heard are in the file: `slicer-lite lape run` says where a task has
such clips."""


def unlabelled(files: list[Path]) -> Table:
    """A table of clips that nothing is known of."""
    labels = pd.DataFrame(columns=["clip", "task", "label", "split", "group"])
    return make_table([file.resolve() for file in files], labels)


def as_table(results: dict[str, Any]) -> str:
    """Accuracies with their intervals, and what these stand on, as Markdown."""
    names = TRAINED, UNTRAINED
    lines = ["| task | these weights | untrained |", "|---|---|---|"]
    for task, row in results["tasks"].items():
        cells = [shown(PLAIN, *(row[name][key] for key in ("accuracy", "low", "high"))) for name in names]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    average = [f"{100 * results['average'][name]:.1f}" for name in names]
    lines.append(f"| average | {' | '.join(average)} |")
    return "\n".join([*lines, "", *wrap(basis(results), 118)])


def card(name: str, model: sl.Pretrained, sounds: int, recordings: pd.DataFrame, scores: str) -> str:
    """The model card."""
    sources = Counter(zip(recordings["source"], recordings["licence"], strict=True))
    listed = "\n".join(
        f"| {source} | {licence} | {count} |" for (source, licence), count in sorted(sources.items())
    )
    of = machine()
    alike = int(recordings["licence"].str.startswith("CC BY-SA").sum())
    return f"""# {name}

A SLICER encoder, both heads, input statistics and k-mix centroids, in half precision. `slicer_lite.load("{name}")`.

## Data

{sounds:,} clips of the embedded sound world, and {len(recordings):,} recordings under CC0, public domain,
CC BY or CC BY-SA (the sources below are to be named, and {alike} of the clips are share-alike).
No label was used, and no clip that one of the tasks below tests on was heard.
{of_public_sets(names_at_source(recordings))}

| source | licence | clips |
|---|---|---|
| embedded sound world | MIT, as this package | {sounds} |
{listed}

## Recipe

Preset `{name}`, {model.step:,} steps of {model.config.batch_size} clips, seed {model.config.seed}, on a CPU with
PyTorch {of["torch"]}:

    python benchmarks/ship.py --data FOLDER --name {name} --steps {model.step}

The recordings are not part of the package. Without `--data` the command learns from the sound world alone.

## Scores

Accuracy of linear probes in per cent, with 95 % intervals, on recordings that were not heard in pre-training:

{scores}

## Limits

A small network that has heard little: good enough to try the notebooks and the tools without waiting. It hears 60 to
7,800 Hz. Train on sounds of your own kind before you rely on it.

## Recordings used

{", ".join(recordings["path"])}
"""


if __name__ == "__main__":
    main()
