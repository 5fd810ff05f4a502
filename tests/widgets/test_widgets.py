"""The Python half of the widgets; tests/browser/ has them drawn, heard and used in JupyterLab."""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import traitlets
from matplotlib.figure import Figure

import slicer_lite as sl
from slicer_lite import widgets
from slicer_lite.explore import clusters, figures
from slicer_lite.method.kmix import mix
from slicer_lite.widgets import Audition, SoundMap
from slicer_lite.widgets.common import front_end
from slicer_lite.widgets.sound_map import _column

FOLDER = Path(widgets.__file__).parent


def heard(content):
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == 16_000
    return samples


# -- audition ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sounds():
    """24 clips: low tones, high tones and noises in turn."""
    rng = np.random.default_rng(0)
    seconds = np.arange(15_200) / 16_000
    made = []
    for number in range(24):
        pitch = (rng.uniform(150, 300), rng.uniform(3000, 6000), 0)[number % 3]
        clip = (
            0.2 * np.sin(2 * np.pi * pitch * seconds)
            + rng.standard_normal(15_200) * (0.002, 0.002, 0.1)[number % 3]
        )
        made.append(clip.astype(np.float32))
    return made


@pytest.fixture
def audition(sounds):
    lms = sl.LogMel()(torch.from_numpy(np.stack(sounds)))
    mean, deviation = lms.mean().item(), lms.std().item()
    spectra = ((lms - mean) / deviation).mean(-1).flatten(1)  # (24, 64)
    centroids = torch.stack([spectra[kind::3].mean(0) for kind in range(3)])
    return Audition(sounds, centroids, mean, deviation)


def test_the_farthest_rule_draws_as_kmix_does(audition):
    audition.domain = "power"
    partners = set()
    for _ in range(20):
        audition.draw("farthest")
        partners.add(audition.partner)
    mixer = audition._mixer
    farthest = int(mixer.partner_cluster()[audition.clusters[audition.clip]])
    members = {i for i, cluster in enumerate(audition.clusters) if cluster == farthest}
    assert len(partners) > 3
    assert partners <= members
    assert f"farthest from {audition.clusters[0]} are, in this order, {farthest}" in audition.shown["about"]


def test_the_nearest_rule_finds_the_most_alike_and_the_random_rule_never_the_clip_itself(audition):
    audition.domain, audition.clip = "power", 4
    spectra = audition._inputs.mean(-1).flatten(1)
    likeness = torch.cosine_similarity(spectra, spectra[4:5])
    likeness[4] = -2
    audition.draw("nearest")
    assert audition.partner == int(likeness.argmax())
    drawn = set()
    for _ in range(200):
        audition.draw("random")
        drawn.add(audition.partner)
    assert drawn == set(range(24)) - {4}
    with pytest.raises(ValueError, match="no rule 'best'"):
        audition.draw("best")


@pytest.mark.parametrize("domain", ["power", "standardised"])
def test_the_ends_of_the_ratio_are_the_clip_and_the_partner(audition, domain):
    audition.domain = domain
    audition.ratio = 0.0
    clip, _, mixture = audition.shown["pictures"]
    assert mixture == clip
    audition.ratio = 1.0
    _, partner, mixture = audition.shown["pictures"]
    # exp and log round in the last digit, which may move a colour by one step.
    assert np.abs(np.frombuffer(mixture, "u1").astype(int) - np.frombuffer(partner, "u1")).max() <= 4


def test_in_the_power_domain_the_sum_with_its_gains_is_heard(audition, sounds):
    audition.domain, audition.ratio, audition.partner = "power", 0.25, 5
    clip, partner, mixture = (heard(sound["wav"]) for sound in audition.shown["sounds"])
    np.testing.assert_allclose(clip, sounds[0], atol=1e-4)
    np.testing.assert_allclose(partner, sounds[5], atol=1e-4)
    np.testing.assert_allclose(mixture, np.sqrt(0.75) * sounds[0] + 0.5 * sounds[5], atol=1e-4)
    assert "√0.75 and √0.25" in audition.shown["sounds"][2]["label"]


def test_in_the_standard_order_two_sounds_have_the_log_mel_that_the_encoder_receives(audition, sounds):
    audition.domain, audition.ratio, audition.partner = "standardised", 0.4, 5
    inputs = audition._inputs
    received = mix(inputs[:1], inputs[5:6], torch.tensor([0.4]))[0, 0]  # as training mixes
    lms = sl.LogMel()(torch.from_numpy(np.stack(sounds)))
    wanted = lms.mean() + lms.std() * received
    labels = []
    for sound in audition.shown["sounds"][2:]:
        own = sl.LogMel()(torch.from_numpy(heard(sound["wav"]))[None])[0, 0]
        loud = wanted > wanted.max() - 7  # 30 dB
        assert (own - wanted)[loud].abs().median() < 0.25  # 1.1 dB
        labels.append(sound["label"])
    assert "band by band" in labels[0]
    assert "Griffin-Lim" in labels[1]


def test_what_would_be_clipped_is_turned_down_with_all_the_others(audition):
    loud = [np.sign(np.sin(0.1 * np.arange(15_200))).astype(np.float32), 0.999 * np.ones(15_200, np.float32)]
    audition = Audition(loud, audition._mixer.centroids, -5.0, 3.0)
    audition.domain, audition.ratio, audition.partner = "power", 0.5, 1
    levels = [np.abs(heard(sound["wav"])).max() for sound in audition.shown["sounds"]]
    assert levels == pytest.approx([2**-0.5, 0.999 * 2**-0.5, 1], abs=2e-3)
    assert "3.0 dB softer" in audition.shown["about"]


def test_an_audition_refuses_what_it_cannot_show(audition, sounds):
    with pytest.raises(ValueError, match="2 to 4,096 clips, got 1"):
        Audition(sounds[:1], audition._mixer.centroids, -5.0, 3.0)
    with pytest.raises(ValueError, match="24 clips, but 2 names"):
        Audition(sounds, audition._mixer.centroids, -5.0, 3.0, names=["a", "b"])
    with pytest.raises(traitlets.TraitError, match="no clip 24"):
        audition.clip = 24
    with pytest.raises(traitlets.TraitError):
        audition.ratio = 1.5


def test_clips_are_called_by_their_labels(tones):
    clips = sl.load_clips(tones, progress=False)
    audition = Audition(clips, torch.eye(64)[:2], -5.0, 3.0)
    assert audition.names[:2] == ["0, low", "1, high"]


# -- sound map ---------------------------------------------------------------------------------------------------


POINTS = np.array([[0, 0], [4, 0], [0, 2], [4, 2]], dtype=np.float32)
CLIPS = [np.full(1600 * (i + 1), 0.1, np.float32) for i in range(4)]
SHARES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
LABELS = {"animal": ["cat", "dog", "", "cat"]}


def unpacked(content, kind):
    return np.frombuffer(content, kind).tolist()


def test_points_keep_their_proportions():
    shown = SoundMap(POINTS, CLIPS)
    assert unpacked(shown._points[0], "<f4") == [0, 0.25, 1, 0.25, 0, 0.75, 1, 0.75]


def test_columns_say_what_each_point_is():
    shown = SoundMap(POINTS, CLIPS, SHARES, LABELS)
    animal, cluster, confidence = shown.columns
    assert animal["labels"] == ["cat", "dog"]
    assert unpacked(animal["codes"][0], "<u2") == [1, 2, 0, 1]  # 0: no label
    assert cluster["labels"] == ["0", "1"]
    assert unpacked(cluster["codes"][0], "<u2") == [1, 2, 1, 2]
    assert (confidence["low"], confidence["high"]) == (0.6, 0.9)
    assert unpacked(confidence["codes"][0], "<u2") == [65535, 43690, 21845, 0]
    assert shown.colour == "animal"


def test_clusters_with_two_digits_are_in_the_order_of_numbers():
    share = np.eye(12)[[11, 2, 10, 2]]
    cluster = SoundMap(POINTS, CLIPS, share).columns[0]
    assert cluster["labels"] == ["2", "10", "11"]


def test_more_labels_than_16_bits_can_tell_apart_are_refused():
    with pytest.raises(ValueError, match="65,535 different labels, got 65,536"):
        _column([np.arange(65_536)])


def test_a_selection_is_counted():
    shown = SoundMap(POINTS, CLIPS, SHARES, LABELS)
    assert shown.selected.tolist() == []
    assert shown.counts().empty
    shown.select([3, 0, 2])
    assert shown.selected.tolist() == [0, 2, 3]
    found = shown.counts().set_index(["of", "label"])["clips"].to_dict()
    assert found == {("animal", "cat"): 2, ("cluster", "0"): 2, ("cluster", "1"): 1}
    assert shown.summary[0] == {"name": "animal", "entries": [["cat", 2]], "others": 0}


def test_the_most_frequent_labels_are_listed_first_and_those_of_one_count_in_their_order():
    animals = ["bee", "ant", "cat", "cat", "dog", "emu", "fox", "gnu"]
    points = np.arange(16).reshape(8, 2)
    shown = SoundMap(points, CLIPS * 2, colours={"animal": animals})
    shown.select(range(8))
    entries = [["cat", 2], ["ant", 1], ["bee", 1], ["dog", 1], ["emu", 1]]
    assert shown.summary == [{"name": "animal", "entries": entries, "others": 2}]


def test_the_page_gets_a_selection_and_its_summary_together(monkeypatch):
    shown = SoundMap(POINTS, CLIPS, colours=LABELS)
    sent = []
    monkeypatch.setattr(shown, "send_state", lambda key=None: sent.append(set(key)))
    shown.select([1])
    assert sent == [{"_selection", "summary"}]


def test_each_map_has_its_own_clusters():
    shown = SoundMap(
        {"before": POINTS[::-1], "after": POINTS}, CLIPS, {"before": SHARES[::-1], "after": SHARES}
    )
    assert shown.names == ["before", "after"]
    assert shown.shown == 1  # the last
    shown.select([0])
    assert shown.counts()["label"].tolist() == ["0"]
    shown.shown = 0
    assert shown.counts()["label"].tolist() == ["1"]
    assert shown.summary[0]["entries"] == [["1", 1]]


def test_of_embeddings_each_map_starts_from_the_one_that_follows(monkeypatch):
    asked = []

    def flat(embeddings, seed, start=None):
        asked.append((embeddings[0, 0], seed, start))
        return embeddings[:, :2] + 1

    monkeypatch.setattr(clusters, "umap_map", flat)
    wide = np.zeros((4, 8), np.float32)
    shown = SoundMap({"0": wide, "10": wide + 1, "20": wide + 2}, CLIPS, seed=3)
    assert list(shown.points) == ["0", "10", "20"]
    assert [(value, seed) for value, seed, _ in asked] == [(2, 3), (1, 3), (0, 3)]
    assert asked[0][2] is None
    np.testing.assert_array_equal(asked[1][2], shown.points["20"])
    np.testing.assert_array_equal(asked[2][2], shown.points["10"])


def test_a_clip_that_is_pointed_at_is_sent(monkeypatch):
    shown = SoundMap(POINTS, CLIPS)
    sent = []
    monkeypatch.setattr(shown, "send", lambda message, buffers: sent.append((message, buffers)))
    shown._guarded(shown, {"kind": "hear", "clip": 2}, [])
    ((message, (picture, sound)),) = sent
    assert message == {"kind": "clip", "clip": 2, "size": (31, 64)}  # 0.3 s
    assert len(picture) == 31 * 64 * 4
    np.testing.assert_allclose(heard(sound), CLIPS[2], atol=1e-4)


def test_a_selection_in_the_browser_reaches_python():
    shown = SoundMap(POINTS, CLIPS)
    shown._guarded(shown, {"kind": "select"}, [memoryview(np.array([1, 3], "<u4").tobytes())])
    assert shown.selected.tolist() == [1, 3]


def test_what_goes_wrong_is_shown_until_something_goes_well():
    shown = SoundMap(POINTS, CLIPS)
    shown._guarded(shown, {"kind": "hear", "clip": 4}, [])
    assert shown.error == "IndexError: There is no clip 4: there are 4."
    shown._guarded(shown, {"kind": "select"}, [b""])
    assert shown.error == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embeddings": POINTS[:3]}, r"'map' must be \(4, …\), one row for each clip, got \(3, 2\)"),
        ({"embeddings": POINTS * np.nan}, "'map' holds values that are not finite"),
        ({"embeddings": POINTS[:, :1]}, "at least two columns"),
        ({"assignment": SHARES[:2]}, "'assignment' must be"),
        ({"assignment": {"other": SHARES}}, r"for \['other'\], but maps are for \['map'\]"),
        ({"colours": {"animal": ["cat"]}}, r"'animal' must be \(4,\)"),
        ({"colour": "taste"}, "no colour 'taste': there are clip"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SoundMap(**({"embeddings": POINTS, "clips": CLIPS} | arguments))


def test_a_map_or_colour_that_is_not_there_is_refused_and_changes_nothing():
    shown = SoundMap({"before": POINTS, "after": -POINTS}, CLIPS, colours=LABELS)
    shown.shown, shown.colour = 0, "animal"
    with pytest.raises(ValueError, match="There is no map 2: they are numbered 0 to 1"):
        shown.shown = 2
    with pytest.raises(ValueError, match="There is no colour 'taste'"):
        shown.colour = "taste"
    assert (shown.shown, shown.colour) == (0, "animal")


# -- all widgets -------------------------------------------------------------------------------------------------


def test_a_widget_leaves_a_picture_in_a_notebook(audition):
    maps = {"before": POINTS, "after": POINTS}
    coloured = SoundMap(maps, CLIPS, SHARES, LABELS)
    numbers = SoundMap(POINTS, CLIPS, SHARES, colour="confidence")
    for widget in (audition, coloured, numbers):
        data, _ = widget._repr_mimebundle_()
        assert data["image/png"].startswith(b"\x89PNG")
        assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
        assert data["text/plain"] == f"<{type(widget).__name__}>"


def test_every_front_end_is_valid_javascript(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed: the widgets' JavaScript is not checked here")
    for file in FOLDER.glob("*.js"):
        module = tmp_path / f"{file.stem}.mjs"
        module.write_text(file.read_text() if file.name == "common.js" else front_end(file.name))
        checked = subprocess.run([node, "--check", module], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


# -- pictures of groups ------------------------------------------------------------------------------------------


def looks(axes):
    """Colour of each point that has a group, by its place."""
    return {
        tuple(place): tuple(colour)
        for drawn in axes.collections[1:]
        for place, colour in zip(drawn.get_offsets().tolist(), drawn.get_facecolors().tolist(), strict=True)
    }


def test_a_group_looks_alike_in_pictures_of_which_not_all_have_it():
    points, names = np.arange(8.0).reshape(4, 2), ["0", "2", "5", "10"]
    every, few = Figure().subplots(), Figure().subplots()
    figures.show_groups(every, points, names, order=names)
    figures.show_groups(few, points[2:], names[2:], order=names)
    assert looks(few) == {place: colour for place, colour in looks(every).items() if place in looks(few)}
    assert [text.get_text() for text in few.get_legend().get_texts()] == ["5", "10"]


def test_the_legend_has_every_label_and_none_where_there_are_too_many():
    axes = Figure().subplots()
    figures.show_groups(axes, np.zeros((3, 2)), ["_silence_", "yes", ""])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["_silence_", "yes"]
    for groups, title in (([""] * 30, "map"), ([f"{n:02}" for n in range(30)], "map (30 labels)")):
        axes = Figure().subplots()
        figures.show_groups(axes, np.zeros((30, 2)), groups, "map")
        assert axes.get_legend() is None
        assert axes.get_title() == title


def test_labels_from_a_table_with_gaps():
    table = pd.DataFrame({"animal": ["cat", None, "dog", np.nan]})
    for values in (table["animal"], table["animal"].astype("string"), table["animal"].astype("category")):
        column = _column([np.asarray(values)])
        assert (column.labels, column.values[0].tolist()) == (["cat", "dog"], [1, 0, 2, 0])


def test_a_task_called_cluster_keeps_its_labels():
    own = {"cluster": np.array([f"own {n % 2}" for n in range(len(CLIPS))])}
    shown = SoundMap(POINTS, CLIPS, SHARES, own)
    assert [column["name"] for column in shown.columns][:1] == ["cluster"]
    assert {"cluster of the network", "confidence"} <= {column["name"] for column in shown.columns}
    assert shown.columns[0]["labels"] == ["own 0", "own 1"]
