"""Instruments, birds, scenes and the city: NSynth, freefield1010 with warblr, TUT 2018, UrbanSound8K."""

from __future__ import annotations

from pathlib import Path

from slicer_lite.base.files import parse_json
from slicer_lite.lape.tasks.download import Archive
from slicer_lite.lape.tasks.task import Row, Task, draw, read_csv, read_lines, require

FAMILIES = tuple(
    "bass brass flute guitar keyboard mallet organ reed string synth_lead vocal".split()  # noqa: SIM905
)
SCENES = tuple(
    "airport bus metro metro_station park public_square shopping_mall street_pedestrian street_traffic "  # noqa: SIM905
    "tram".split()
)
URBAN = tuple(
    "air_conditioner car_horn children_playing dog_bark drilling engine_idling gun_shot jackhammer siren "  # noqa: SIM905
    "street_music".split()
)
_BIRD_SETS = {
    "ff1010bird": "ff1010bird_metadata_2018.csv",
    "warblrb10k_public": "warblrb10k_public_metadata_2018.csv",
}
_NSYNTH_PARTS = {"train": "train", "valid": "validation", "test": "test"}
_TUT = "TUT-urban-acoustic-scenes-2018-development"
_TUT_PARTS = {
    "meta": "e196065ee83c07af03a11a310364377d",
    "audio.1": "62f97087c447e29def8716204469bf89",
    "audio.2": "8e569a92025d82bff6b02b956d7c6dc9",
    "audio.3": "00d2020582a4535af5e65322fb2bad56",
    "audio.4": "d691eb4271f83ba6ba9a28797accc497",
    "audio.5": "c4d64b5483b60f85e9fe080b3435a6be",
    "audio.6": "2f0feee78f216697eb19497714d97642",
    "audio.7": "07cfefe80a0731de6819181841239f3a",
    "audio.8": "213f3c012859c2e9dcb74aacc8558458",
    "audio.9": "b724442b09abcb3bd095ebff497cef85",
    "audio.10": "a27a32fa52e283ed8013375b8a16f269",
    "audio.11": "7073a121e825ffef99832507f30d6644",
    "audio.12": "6567aa61db12776568b6267ce122fb18",
    "audio.13": "d00eeb2db0e093d8975521323a96c519",
}
_TUT_SETUP = {"train": "train", "test": "evaluate"}
_TEST_SHARE = 0.2  # of the bird clips


def _nsynth(root: Path) -> list[Row]:
    folders = {split: root / f"nsynth-{part}" for part, split in _NSYNTH_PARTS.items()}
    require(*(folder / "examples.json" for folder in folders.values()))
    rows = []
    for split, folder in folders.items():
        notes = _read_json(folder / "examples.json")
        for name, note in notes.items():
            rows.append(
                Row(
                    folder / "audio" / f"{name}.wav",
                    _entry(note, "instrument_family_str", folder, name),
                    split,
                    _entry(note, "instrument_str", folder, name),
                )
            )
    return rows


def _read_json(path: Path) -> dict[str, dict[str, object]]:
    try:
        notes = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON ({error}): unpack the archive anew.") from None
    if not isinstance(notes, dict) or not all(isinstance(note, dict) for note in notes.values()):
        raise ValueError(f"{path} should map each note's name to what is known of it.")
    return notes


def _entry(note: dict[str, object], key: str, folder: Path, name: str) -> str:
    if key not in note:
        raise ValueError(f"{folder / 'examples.json'}: the note {name!r} lacks {key!r}.")
    return str(note[key])


def _birdsong(root: Path) -> list[Row]:
    tables = [root / folder / name for folder, name in _BIRD_SETS.items()]
    require(*tables)
    rows = []
    for table in tables:
        listed = read_csv(table, ("itemid", "datasetid", "hasbird"))
        for label, has in (("no bird", "0"), ("bird", "1")):
            names = listed.loc[listed["hasbird"] == has, "itemid"].tolist()
            # Drawn within each data set and class, so that both halves have the same shares.
            test = draw(names, round(_TEST_SHARE * len(names)))
            rows += [
                Row(table.parent / "wav" / f"{name}.wav", label, "test" if name in test else "train")
                for name in names
            ]
        other = sorted(set(listed["hasbird"]) - {"0", "1"})
        if other:
            raise ValueError(f"{table}: hasbird is {other[0]!r} somewhere; it must be 0 or 1.")
    return rows


def _tut2018(root: Path) -> list[Row]:
    folder = root / _TUT
    setup = {split: folder / "evaluation_setup" / f"fold1_{part}.txt" for split, part in _TUT_SETUP.items()}
    require(folder / "meta.csv", *setup.values())
    listed = read_csv(folder / "meta.csv", ("filename", "scene_label", "identifier"), separator="\t")
    places = dict(zip(listed["filename"], listed["identifier"], strict=True))
    rows = []
    for split, path in setup.items():
        for line in read_lines(path):
            name, _, label = line.partition("\t")
            if name not in places:
                raise ValueError(f"{path} names {name!r}, which meta.csv does not list.")
            rows.append(Row(folder / name, label, split, places[name]))
    return rows


def _us8k(root: Path) -> list[Row]:
    folder = root / "UrbanSound8K"
    table = folder / "metadata" / "UrbanSound8K.csv"
    listed = read_csv(table, ("slice_file_name", "fold", "class"))
    return [
        Row(folder / "audio" / f"fold{fold}" / name, label, "test", fold)
        for name, fold, label in zip(listed["slice_file_name"], listed["fold"], listed["class"], strict=True)
    ]


TASKS = (
    Task(
        id="nsynth",
        title="instrument family",
        dataset="NSynth",
        classes=FAMILIES,
        class_count=11,
        source="https://magenta.tensorflow.org/datasets/nsynth",
        licence="CC BY 4.0",
        layout="""\
nsynth-train/examples.json, audio/bass_synthetic_033-022-050.wav …
nsynth-valid/  the same
nsynth-test/   the same
""",
        split=(
            "The data set's own; no instrument of the train split is in another. synth_lead may be in train only, as "
            "is reported of the data set; that was not verified."
        ),
        published={"train": 289_205, "validation": 12_678, "test": 4_096},
        published_in="https://magenta.tensorflow.org/datasets/nsynth",
        reader=_nsynth,
        archives=tuple(
            Archive(f"http://download.magenta.tensorflow.org/datasets/nsynth/nsynth-{part}.jsonwav.tar.gz")
            for part in ("train", "valid", "test")
        ),
        absent=("synth_lead",),
    ),
    Task(
        id="birdsong",
        title="bird present or not",
        dataset="freefield1010 and warblr",
        classes=("no bird", "bird"),
        class_count=2,
        source="https://dcase.community/challenge2018/task-bird-audio-detection",
        licence="CC BY, as the authors say of the labels; that of the sounds was not verified",
        layout="""\
ff1010bird/ff1010bird_metadata_2018.csv, wav/55.wav …
warblrb10k_public/warblrb10k_public_metadata_2018.csv, wav/759808e5-f824-401e-9058.wav …
""",
        split=(
            "80 % train, 20 % test within each data set and class, drawn by a hash of the clips' names [ours]; the "
            "published development data have no split of their own."
        ),
        published={"all": 15_690},
        published_in="https://dcase.community/challenge2018/task-bird-audio-detection",
        reader=_birdsong,
        archives=(
            Archive("https://archive.org/download/ff1010bird/ff1010bird_wav.zip", folder="ff1010bird"),
            Archive(
                "https://ndownloader.figshare.com/files/10853303",
                folder="ff1010bird",
                name=_BIRD_SETS["ff1010bird"],
            ),
            Archive(
                "https://archive.org/download/warblrb10k_public/warblrb10k_public_wav.zip",
                folder="warblrb10k_public",
            ),
            Archive(
                "https://ndownloader.figshare.com/files/10853306",
                folder="warblrb10k_public",
                name=_BIRD_SETS["warblrb10k_public"],
            ),
        ),
    ),
    Task(
        id="tut2018",
        title="acoustic scene",
        dataset="TUT Urban Acoustic Scenes 2018, development",
        classes=SCENES,
        class_count=10,
        source="https://zenodo.org/records/1228142",
        licence="Tampere University of Technology's own, for experimental and non-commercial use",
        layout="""\
TUT-urban-acoustic-scenes-2018-development/
  meta.csv
  evaluation_setup/fold1_train.txt, fold1_evaluate.txt
  audio/airport-barcelona-0-0-a.wav …
""",
        split="fold1_train.txt and fold1_evaluate.txt of the data set; no recording location is in both.",
        published={"train": 6_122, "test": 2_518},
        published_in="README.md of the data set, https://zenodo.org/records/1228142",
        reader=_tut2018,
        archives=tuple(
            Archive(f"https://zenodo.org/records/1228142/files/{_TUT}.{part}.zip", f"md5:{md5}")
            for part, md5 in _TUT_PARTS.items()
        ),
    ),
    Task(
        id="us8k",
        title="urban sound",
        dataset="UrbanSound8K",
        classes=URBAN,
        class_count=10,
        source="https://urbansounddataset.weebly.com/urbansound8k.html",
        licence="CC BY-NC 3.0",
        layout="""\
UrbanSound8K/
  metadata/UrbanSound8K.csv
  audio/fold1/101415-3-0-2.wav … audio/fold10/
""",
        split=(
            "The data set's ten folds: each is the test split once, the other nine are the train split. (Five of "
            "its 1,297 recordings have slices in two folds; the folds are the data set's, so they stay.)"
        ),
        published={"all": 8_732},
        published_in="https://urbansounddataset.weebly.com/urbansound8k.html",
        reader=_us8k,
        archives=(
            Archive(
                "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz",
                "md5:9aa69802bbf37fb986f71ec1483a196e",
            ),
        ),
        folds=10,
    ),
)
