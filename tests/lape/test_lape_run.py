"""From waveforms to a table: features on disk, the lape protocol, baselines, results and their report."""

import errno
import json
import os
import shutil
import time

import miniatures
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from networks import Bands
from sklearn.linear_model import LogisticRegression

import slicer_lite as sl
from slicer_lite.cli import main
from slicer_lite.explore.embed import mel_statistics, set_statistics
from slicer_lite.lape.checkpoints import load_audiontt
from slicer_lite.lape.report import _size, as_latex, as_markdown, gather, write_report
from slicer_lite.lape.run import TRAINED_ENCODER, run_task
from slicer_lite.method.registry import METHODS
from slicer_lite.probe import features, intervals, layer, supervised
from slicer_lite.probe import linear as probes
from slicer_lite.probe.features import Features, data_hash, weights_hash, window_features
from slicer_lite.probe.layer import LinearLayer, Windows
from slicer_lite.probe.linear import (
    CS,
    _classifier,
    majority_of,
    quick_probe,
    window_probe,
    with_validation,
)
from slicer_lite.share.weights import save_weights, untrained_encoder

CPU = torch.device("cpu")


def blobs(count, classes=4, dim=20, spread=1.5, seed=0):
    """Features of unequal scale, and class numbers."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    y = np.arange(count) % classes
    x = (centres[y] + spread * rng.standard_normal((count, dim))) * np.linspace(0.1, 9, dim) + 5
    return x.astype(np.float32), y


def windowed(splits, seed=0, spread=3.0, windows=5):
    """Clips of one to five windows: features, and rows of one task with the splits given as numbers of clips."""
    rng = np.random.default_rng(seed)
    count = sum(splits.values())
    owner = np.repeat(np.arange(count), rng.integers(1, windows + 1, count))
    clip = np.arange(count)
    x, _ = blobs(len(owner), spread=spread, seed=seed)
    centres = np.random.default_rng(7).standard_normal((4, 20))
    x += 6 * centres[clip % 4][owner]
    rows = pd.DataFrame(
        {
            "clip": clip,
            "task": "t",
            "label": [f"class {n}" for n in clip % 4],
            "split": np.repeat(list(splits), list(splits.values())),
            "group": "",
        }
    )
    return Features(x, owner), rows


# One linear layer


@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_layer_is_scikit_learns_logistic_regression(c, classes):
    x, y = blobs(400, classes)
    test_x, test_y = blobs(1000, classes, seed=1)
    windows = Windows(x, np.arange(400), CPU)
    layer = LinearLayer(classes, 20).fit(windows, y, c)
    scores = layer.logits(Windows(test_x, np.arange(1000), CPU, windows))
    mean, deviation = x.mean(0), x.std(0)
    theirs = LogisticRegression(C=c, max_iter=1000).fit((x - mean) / deviation, y)
    assert np.mean(scores.argmax(1) == test_y) == pytest.approx(
        theirs.score((test_x - mean) / deviation, test_y), abs=0.005
    )
    weight = layer.weight if classes > 2 else layer.weight[1:] - layer.weight[:1]
    np.testing.assert_allclose(weight, theirs.coef_, atol=1e-2 * np.abs(theirs.coef_).max())


def test_more_windows_than_are_held_give_the_same_layer(monkeypatch):
    x, y = blobs(500)
    rows = np.flatnonzero(np.arange(500) % 3)
    held = LinearLayer(4, 20).fit(Windows(x, rows, CPU), y[rows], 0.1)
    monkeypatch.setattr(layer, "_HELD", 0)
    monkeypatch.setattr(layer, "_PIECE", 64)
    windows = Windows(x, rows, CPU)
    assert windows._held is None
    read = LinearLayer(4, 20).fit(windows, y[rows], 0.1)
    np.testing.assert_allclose(read.weight, held.weight, atol=1e-4)
    np.testing.assert_allclose(read.logits(windows), held.logits(windows), atol=1e-3)


def test_a_feature_that_never_changes_is_harmless():
    x, y = blobs(100)
    x[:, 3] = 7
    windows = Windows(x, np.arange(100), CPU)
    assert windows.deviation[3] == 1
    assert np.isfinite(LinearLayer(4, 20).fit(windows, y, 1.0).logits(windows)).all()


# The lape protocol


def test_window_probe_is_the_mean_of_window_scores():
    found, rows = windowed({"train": 120, "validation": 40, "test": 300})
    ours = window_probe(found, rows, cs=(0.01,))
    split = rows["split"].to_numpy()[found.owner]
    y = rows["label"].to_numpy()[found.owner]
    x = found.windows[split == "train"]
    mean, deviation = x.mean(0), x.std(0)
    plain = LogisticRegression(C=0.01, max_iter=1000).fit((x - mean) / deviation, y[split == "train"])
    scores = plain.decision_function((found.windows[split == "test"] - mean) / deviation)
    clips = pd.DataFrame(scores).groupby(found.owner[split == "test"]).mean()
    right = plain.classes_[clips.to_numpy().argmax(1)] == rows["label"][clips.index]
    assert ours.accuracy == pytest.approx(right.mean(), abs=0.005)
    assert ours.clips == 300
    assert ours.C == 0.01


@pytest.mark.parametrize("splits", [{"train": 80, "test": 60}, {"train": 80, "validation": 40, "test": 60}])
def test_the_test_split_plays_no_part_in_the_choice(splits):
    found, rows = windowed(splits)
    other, test = rows.copy(), rows["split"] == "test"
    other.loc[test, "label"] = np.roll(rows["label"][test], 1)
    one, two = (window_probe(found, r) for r in (rows, other))
    assert one.C == two.C
    assert two.accuracy < one.accuracy
    assert quick_probe(found.of_clips(), rows).C == quick_probe(found.of_clips(), other).C


@pytest.mark.parametrize("c", CS)
def test_the_validation_split_chooses_the_window_probes_c(c):
    # Validation labels that a layer of this C would give, and no stronger one would.
    found, rows = windowed({"train": 40, "validation": 400, "test": 8}, spread=20, windows=1)
    train, held = (np.flatnonzero(rows["split"] == split) for split in ("train", "validation"))
    names, y = np.unique(rows["label"].iloc[train].to_numpy(str), return_inverse=True)
    windows = Windows(found.windows, train, CPU)
    layer = LinearLayer(4, found.windows.shape[1])
    for weaker in CS:  # warm, as the probe goes
        if weaker <= c:
            layer.fit(windows, y, weaker)
    scores = layer.logits(Windows(found.windows, held, CPU, windows))
    rows.loc[held, "label"] = names[scores.argmax(1)]
    assert c == window_probe(found, rows).C


@pytest.mark.parametrize("dim", [1, 3, 20])
@pytest.mark.parametrize(("train", "often"), [(60, 0.8), (20, 0.8), (60, 0.95), (200, 0.9)])
def test_the_window_probe_is_not_content_with_the_frequent_class(train, often, dim):
    # All strong regularisations say the class that is frequent: equally right, one after the other.
    rng = np.random.default_rng(0)
    rare = np.concatenate([np.arange(count) >= often * count for count in (train, 100)])
    x = (rng.standard_normal((len(rare), dim)) + 5 * rare[:, None]).astype(np.float32)
    rows = pd.DataFrame(
        {
            "clip": np.arange(len(rare)),
            "label": np.where(rare, "rare", "often"),
            "split": ["train"] * train + ["test"] * 100,
            "group": "",
        }
    )
    found = Features(x, np.arange(len(rare)))
    ours, quick = window_probe(found, rows), quick_probe(x, rows)
    assert ours.accuracy > often + 0.6 * (1 - often)
    assert ours.accuracy == pytest.approx(quick.accuracy, abs=0.03)


def test_the_window_probe_of_many_classes_and_few_clips_tries_all_strengths():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 50
    x = 2 * rng.standard_normal((50, 30))[y] + rng.standard_normal((300, 30))
    split = np.where(np.arange(300) < 150, "train", "test")  # three clips a class to learn from
    rows = pd.DataFrame({"clip": np.arange(300), "label": [f"c{n}" for n in y], "split": split, "group": ""})
    found = Features(x.astype(np.float32), np.arange(300))
    assert window_probe(found, rows).accuracy >= quick_probe(x, rows).accuracy - 0.05 > 0.8


def test_a_blank_group_is_a_group_of_its_own(monkeypatch):
    # One blank of 80: the others are still kept together, by every probe.
    found, rows = windowed({"train": 80, "test": 40})
    rows["group"] = [f"g{n // 8}" for n in range(len(rows))]
    rows.loc[[5, 90], "group"] = ""
    seen, real = [], probes.split_folds

    def noted(y, groups, *rest):
        folds = real(y, groups, *rest)
        seen.extend(
            (np.array(rows["group"][:80])[fit], np.array(rows["group"][:80])[held]) for fit, held in folds
        )
        return folds

    monkeypatch.setattr(probes, "split_folds", noted)
    accuracies = [window_probe(found, rows), quick_probe(found.of_clips(), rows)]
    with_validation(rows)
    assert len(seen) == 4 + 4 + 5
    for fit, held in seen:
        assert not set(fit) & set(held)
    for accuracy in (*accuracies, majority_of(rows)):
        assert accuracy.groups == 6  # five named ones and the blank


def test_without_a_validation_split_whole_groups_are_held_out(monkeypatch):
    found, rows = windowed({"train": 80, "test": 8})
    rows["group"] = [f"g{n // 4}" for n in range(len(rows))]
    seen = []
    real = probes._window_c
    monkeypatch.setattr(probes, "_window_c", lambda f, splits, *a: seen.extend(splits) or real(f, splits, *a))
    window_probe(found, rows)
    assert len(seen) == 4
    assert sorted(clip for _, held in seen for clip in held["clip"]) == list(range(80))
    for fit, held in seen:
        assert not set(fit["group"]) & set(held["group"])
        assert set(fit["split"]) == {"train"} == set(held["split"])


@pytest.mark.parametrize("c", CS)
def test_the_validation_split_chooses_the_quick_probes_c(c):
    # Validation labels that a classifier of this C would give, and no stronger one would.
    found, rows = windowed({"train": 40, "validation": 400, "test": 8}, spread=20)
    x, held = found.of_clips(), rows["split"] == "validation"
    fitted = _classifier(c).fit(x[rows["split"] == "train"], rows["label"][rows["split"] == "train"])
    rows.loc[held, "label"] = fitted.predict(x[held])
    assert c == quick_probe(x, rows).C


def test_what_is_held_out_keeps_groups_together():
    _, rows = windowed({"train": 200, "test": 8})
    rows["group"] = [f"g{n // 4}" for n in range(len(rows))]
    fit, held = with_validation(rows, seed=1)
    assert not set(fit["group"]) & set(held["group"])
    assert set(fit["split"]) == {"train"} == set(held["split"])
    assert len(held) == pytest.approx(40, abs=8)
    assert held["clip"].tolist() == with_validation(rows, seed=1)[1]["clip"].tolist()
    assert held["clip"].tolist() != with_validation(rows, seed=2)[1]["clip"].tolist()


@pytest.mark.parametrize("probe", [window_probe, lambda f, rows: quick_probe(f.of_clips(), rows)])
def test_labels_that_do_not_fit_are_refused(probe):
    found, rows = windowed({"train": 40, "test": 8})
    with pytest.raises(ValueError, match="lacks: owl"):
        probe(found, rows.assign(label=np.where(rows["split"] == "test", "owl", rows["label"])))
    with pytest.raises(ValueError, match="at least two classes"):
        probe(found, rows.assign(label="owl"))
    bad = Features(np.full_like(found.windows, np.nan), found.owner)
    with pytest.raises(ValueError, match="must be finite"):
        probe(bad, rows)


# Features


@pytest.fixture
def clips(tones):
    return sl.load_clips(tones, progress=False)


@pytest.fixture
def encoder():
    return sl.Encoder(channels=4, dim=16).eval().requires_grad_(False)


def test_features_are_computed_once(clips, encoder, monkeypatch):
    first = window_features(encoder, clips)
    assert isinstance(first.windows, np.memmap)
    assert len(first.windows) == len(first.owner)
    np.testing.assert_allclose(first.of_clips(), sl.embed(encoder, clips), atol=1e-5)
    np.testing.assert_allclose(window_features(None, clips).of_clips(), mel_statistics(clips), atol=1e-4)

    def never(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(features, "over_windows", never)
    np.testing.assert_array_equal(window_features(encoder, clips).windows, first.windows)
    with pytest.raises(AssertionError, match="computed again"):
        window_features(untrained_encoder(encoder, seed=1), clips)
    with pytest.raises(AssertionError, match="computed again"):
        window_features(encoder, clips.subset(np.arange(1, 48)))


def test_features_of_ones_own_code_are_computed_anew_when_it_says_something_else(clips, monkeypatch):
    encoder = sl.as_encoder(Bands).eval()
    first = window_features(encoder, clips)
    monkeypatch.setattr(Bands, "forward", lambda self, lms: self.layer(lms.squeeze(1).transpose(1, 2)))
    again = window_features(encoder, clips)  # the same weights
    assert np.abs(again.windows - first.windows).max() > 0.1
    monkeypatch.undo()
    np.testing.assert_array_equal(window_features(encoder, clips).windows, first.windows)


def test_weights_of_bfloat16_have_a_hash(encoder):
    assert weights_hash(encoder.bfloat16()) == weights_hash(encoder)


def test_hashes_tell_weights_and_data_apart(clips, encoder):
    other = untrained_encoder(encoder, seed=3)
    assert weights_hash(other) == weights_hash(untrained_encoder(encoder, seed=3)) != weights_hash(encoder)
    other.mean.fill_(1.0)
    assert weights_hash(other) != weights_hash(untrained_encoder(encoder, seed=3))
    waveforms = [clips[i].copy() for i in range(5)]
    before = data_hash(sl.Clips.from_waveforms(waveforms))
    waveforms[4][-1] += 0.1
    assert data_hash(sl.Clips.from_waveforms(waveforms)) != before


def test_features_that_were_cut_short_leave_nothing(clips, encoder, monkeypatch, tmp_path):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path))
    whole = features.over_windows

    def half(*arguments, **options):
        yield next(whole(*arguments, **options))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features, "over_windows", half)
    with pytest.raises(
        OSError, match=r"No space left .* while writing: .*\.npy \(SLICER_LITE_CACHE moves it\)"
    ):
        window_features(encoder, clips)
    assert not list((tmp_path / "features").iterdir())


def test_what_a_kill_left_half_written_among_the_features_goes_after_a_week(
    clips, encoder, monkeypatch, tmp_path
):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path))
    (tmp_path / "features").mkdir()
    old, new = (tmp_path / "features" / f".{name}.npy.0.unfinished" for name in ("old", "new"))
    for path, days in ((old, 8), (new, 6)):
        path.write_bytes(b"half")
        os.utime(path, 2 * (time.time() - days * 24 * 3600,))
    window_features(encoder, clips)
    assert new.exists() and not old.exists()


@pytest.mark.parametrize(
    "damage", [lambda content: content[:200], lambda content: b"", lambda content: b"no"]
)
def test_damaged_features_are_computed_anew(clips, encoder, monkeypatch, tmp_path, damage):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path))
    before = np.array(window_features(encoder, clips).windows)
    (file,) = (tmp_path / "features").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(window_features(encoder, clips).windows, before)


# Baselines


@pytest.mark.slow
def test_supervised_hears_what_it_is_told(clips):
    found = supervised.supervised(clips, clips.rows, channels=8, dim=32, epochs=150)
    assert found["pitch"].accuracy > 0.8
    assert found["pitch"].clips == 16


def test_a_task_whose_held_out_labels_are_unknown_has_no_say(clips, monkeypatch):
    scores = {"known": np.log([[0.25, 0.75]]), "unknown": np.zeros((1, 2))}
    monkeypatch.setattr(supervised, "_logits", lambda *_: scores)
    rows = {"known": pd.DataFrame({"label": ["b"]}), "unknown": pd.DataFrame({"label": ["z"]})}
    names = dict.fromkeys(rows, np.array(["a", "b"]))
    found = supervised._likelihood(None, clips, rows, names, torch.device("cpu"))
    assert found == pytest.approx(np.log(0.75))


def test_supervised_training_of_few_steps(clips):
    rows = clips.rows[clips.rows["task"] == "pitch"]
    assert supervised.supervised(clips, rows, 4, 16, epochs=5, validate=False)["pitch"].clips == 16


def test_an_encoder_of_ones_own_has_all_baselines(clips):
    encoder = sl.as_encoder(Bands).eval()
    set_statistics(encoder, clips)
    found = run_task(
        encoder, clips, "pitch", "quick", seeds=[0], baselines=["untrained", "mel"], device="cpu"
    )
    assert found["about"]["weights"] | {"sha256": ""} == {
        "sha256": "", "encoder": "Bands", "dim": 16,
        "mean": encoder.mean.item(), "deviation": encoder.deviation.item(),
    }  # fmt: skip
    assert _size(found) == "Bands, d = 16"
    assert untrained_encoder(encoder, seed=1).mean == encoder.mean
    rows = clips.rows[clips.rows["task"] == "pitch"]
    assert supervised.supervised(clips, rows, epochs=2, encoder=Bands)["pitch"].clips == 16
    with pytest.raises(ValueError, match="how to make another Bands with new weights is not known"):
        run_task(sl.as_encoder(Bands()), clips, "pitch", "quick", seeds=[0], baselines=["untrained"])


def test_supervised_training_is_a_function_of_its_seed(clips):
    one, again = (supervised.supervised(clips, clips.rows, 4, 16, epochs=4) for _ in range(2))
    assert one == again


def test_several_tasks_share_an_encoder(clips):
    twin = clips.rows.assign(task="again", label=clips.rows["label"].map({"low": "a", "high": "b"}))
    both = supervised.supervised(
        clips, pd.concat([clips.rows, twin]), channels=4, dim=16, epochs=2, validate=False
    )
    assert list(both) == ["pitch", "again"]


def test_variation_flattens_one_stretch_of_bands_and_one_of_frames():
    lms = torch.randn(200, 1, 64, 96)
    varied = supervised._varied(lms, torch.Generator().manual_seed(0))
    gain = varied.flatten(1).sub(lms.flatten(1)).median(1).values
    flat = (varied - lms - gain[:, None, None, None]).abs() > 1e-4
    bands, frames = flat.all(3).sum((1, 2)), flat.all(2).sum((1, 2))
    assert 7 <= bands.max() <= 9
    assert 9 <= frames.max() <= 11
    assert gain.std() == pytest.approx(1, abs=0.2)


# External weights


def test_external_weights_are_read_without_running_code(tmp_path, encoder, clips):
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": {f"encoder.{k}": v for k, v in encoder.state_dict().items()}}, path)
    theirs = load_audiontt(path)
    assert not theirs.training
    torch.testing.assert_close(theirs(torch.ones(1, 1, 64, 96)), encoder(torch.ones(1, 1, 64, 96)))
    both = {
        f"{name}.encoder.{k}": v
        for name in ("encoder_k", "encoder_q")
        for k, v in encoder.state_dict().items()
    }
    torch.save({k: v + ("encoder_k" in k) for k, v in both.items()}, path)
    assert weights_hash(load_audiontt(path)) == weights_hash(theirs)  # the student, not the teacher
    assert (theirs.mean, theirs.deviation) == (0, 1)
    part = clips.for_pretraining()
    set_statistics(theirs, part)
    lms = sl.LogMel()(part.windows(np.arange(len(part)), part.room // 2).float() / 32768)
    assert theirs.mean.item() == pytest.approx(lms.mean().item(), abs=0.5)
    torch.save({"state_dict": clips}, path)
    with pytest.raises(ValueError, match="without running code"):
        load_audiontt(path)
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="theirs.pth"):
        load_audiontt(path)
    torch.save(sl.Encoder(n_mels=80, channels=4, dim=16).state_dict(), path)
    with pytest.raises(ValueError, match="80 mel bands; here there are 64"):
        load_audiontt(path)
    with pytest.raises(FileNotFoundError):
        load_audiontt(tmp_path / "none.pth")


# A task


@pytest.mark.parametrize("protocol", ["lape", "quick"])
def test_a_task_beside_its_baselines(clips, encoder, protocol):
    found = run_task(encoder, clips, "pitch", protocol, seeds=(0, 1), device="cpu")
    assert list(found["results"]) == [
        TRAINED_ENCODER,
        "untrained encoder",
        "mel mean + deviation",
        "majority class",
    ]
    assert found["results"]["majority class"]["accuracy"] == 0.5
    mel = found["results"]["mel mean + deviation"]
    assert mel["accuracy"] == np.mean([mel["runs"][seed][0]["accuracy"] for seed in "01"]) > 0.8
    assert mel["low"] < mel["accuracy"] < mel["high"] or mel["accuracy"] == 1
    assert (mel["clips"], mel["groups"]) == (16, 8)
    assert intervals.counts(mel["by_group"]).sum(1).tolist() == [16 * mel["accuracy"], 16]
    about = found["about"]
    assert about["protocol"].startswith(f"{protocol}: ")
    assert about["weights"]["sha256"] == weights_hash(encoder)
    assert about["data"]["splits"] == {"train": 32, "test": 16}
    assert about["seeds"] == [0, 1]
    assert {"torch", "numpy", "scipy", "sklearn", "python", "slicer_lite"} <= about["versions"].keys()
    json.dumps(found)


def test_every_fold_is_the_test_split_once(tones, encoder, tmp_path):
    rows = pd.read_csv(tones / "manifest.csv").assign(task="us8k", split="test", group=lambda r: r.index % 3)
    rows["path"] = [str(tones / name) for name in rows["path"]]
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    clips = sl.load_clips(tmp_path, allow_outside=True, progress=False)
    found = run_task(encoder, clips, "us8k", "quick", seeds=(0,), baselines=("mel",), device="cpu")
    folds = found["results"]["mel mean + deviation"]["runs"]["0"]
    assert [fold["clips"] for fold in folds] == [16, 16, 16]
    assert found["results"]["mel mean + deviation"]["clips"] == 48
    # Of a single fold nothing is known, of three together little.
    assert {fold["low"] for fold in folds} == {None}
    together = found["results"]["mel mean + deviation"]
    assert together["groups"] == 3
    assert together["low"] < intervals.wilson(together["accuracy"], 48)[0]
    assert found["about"]["data"]["rounds"] == ["0", "1", "2"]
    assert any("not the published" in sentence for sentence in found["about"]["differences"])


@pytest.mark.slow
def test_lapes_own_data_sets_run_and_what_is_missing_is_left_out(tmp_path, minute, capsys):
    root = tmp_path / "root"
    miniatures.nsynth(root)  # a validation split, and a class that only the train split has
    miniatures.us8k(root)  # ten folds
    save_weights(tmp_path / "w.safetensors", METHODS["slicer"].network(minute), None, minute, 0)
    run = [
        "lape",
        "run",
        "--weights",
        str(tmp_path / "w.safetensors"),
        "--root",
        str(root),
        "--seeds",
        "0",
        "1",
    ]
    main([*run, "--out", str(tmp_path / "results"), "--baselines", "mel", "majority"])
    said = capsys.readouterr()
    assert "voxceleb1_sid: left out. " in said.err
    main(["lape", "report", "--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")])
    found = json.loads((tmp_path / "report" / "results.json").read_text())["about"]["results"]["results"]
    assert list(found) == ["nsynth", "us8k"]
    runs = {task: found[task]["results"][TRAINED_ENCODER]["runs"] for task in found}
    assert list(runs["nsynth"]) == ["0"]  # with a validation split nothing is random
    assert [len(folds) for folds in runs["us8k"].values()] == [10, 10]
    assert "| us8k | " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*run, "--out", str(tmp_path / "results"), "--tasks", "iemocap"])
    assert "IEMOCAP" in capsys.readouterr().err


def test_a_data_set_of_which_nothing_can_be_read_does_not_end_the_others(tmp_path, minute, capsys):
    root = tmp_path / "my root"
    miniatures.nsynth(root)
    for path in root.rglob("*.wav"):
        path.write_text("no sound")
    miniatures.us8k(root)
    save_weights(tmp_path / "w.safetensors", METHODS["slicer"].network(minute), None, minute, 0)
    run = ["lape", "run", "--weights", str(tmp_path / "w.safetensors"), "--root", str(root), "--seeds", "0"]
    main([*run, "--out", str(tmp_path / "the results"), "--baselines", "majority", "--protocol", "quick"])
    said = capsys.readouterr()
    assert "nsynth: left out. None of the " in said.err
    assert [path.name for path in (tmp_path / "the results").iterdir()] == ["us8k.json"]
    assert f"--results '{tmp_path / 'the results'}' --out" in said.out
    with pytest.raises(SystemExit):
        main(["lape", "check", "us8k", "--root", str(tmp_path / "no root")])
    assert f"'{tmp_path / 'no root'}'" in capsys.readouterr().out


def test_what_cannot_be_probed_is_said(clips, encoder):
    with pytest.raises(ValueError, match="no task 'pich': the tasks are pitch"):
        run_task(encoder, clips, "pich")
    with pytest.raises(ValueError, match="'pitch' has no test split"):
        run_task(encoder, clips.for_pretraining(), "pitch")
    with pytest.raises(ValueError, match="at least one"):
        run_task(encoder, clips, "pitch", seeds=())


# The report


def result(task, accuracy, protocol="lape: as stated", data="d"):
    cell = {"accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1, "clips": 50, "runs": {}}
    results = {TRAINED_ENCODER: cell, "majority class": {**cell, "accuracy": 0.25, "low": 0.2, "high": 0.3}}
    return {"task": task, "results": results, "about": {"protocol": protocol, "data": {"sha256": data}}}


def folder_of(path, *results):
    path.mkdir()
    for found in results:
        (path / f"{found['task']}.json").write_text(json.dumps(found))
    return path


def test_a_report_of_nothing_is_refused():
    with pytest.raises(ValueError, match="No folder of results is given"):
        gather([])


def test_tables_of_one_folder(tmp_path):
    folder = folder_of(tmp_path / "a", result("my_words", 0.5), result("us8k", 0.75))
    results = gather([folder])
    assert list(results["tasks"]) == ["us8k", "my_words"]  # LAPE's own first
    assert results["average"] == {TRAINED_ENCODER: 0.625, "majority class": 0.25}
    lines = as_markdown(results).splitlines()
    published = "BYOL-A, d = 512 | BYOL-A, d = 2048 | SLICER, as published"
    assert lines[0] == f"| task | trained encoder | majority class | {published} |"
    assert lines[2] == "| us8k | 75.0 (65.0 to 85.0) | 25.0 (20.0 to 30.0) | 78.2 | 79.1 |  |"
    assert lines[4] == "| average | 62.5 (55.4 to 69.6) | 25.0 (21.5 to 28.5) |  |  |  |"
    assert lines[5] == "| trained encoder ahead by |  | 37.5 (no interval) |  |  |  |"
    assert "Protocol lape: as stated" in lines[-1]
    assert "arXiv 2103.06695" in lines[-1]
    assert "Of clips taken as independent, since their groups are not stored: us8k, my_words." in lines[-1]
    latex = as_latex(results)
    assert r"my\_words & 50.0 {\scriptsize(40.0--60.0)} & 25.0" in latex
    assert latex.count(r"\\") == 5
    assert latex.count("{") == latex.count("}")


def test_several_encoders_side_by_side(tmp_path):
    one = folder_of(tmp_path / "slicer", result("x", 0.5), result("y", 0.7))
    two = folder_of(tmp_path / "delores_m", result("x", 0.4))
    results = gather([one, two])
    assert list(results["average"]) == ["slicer", "delores_m", "majority class"]
    assert results["average"]["slicer"] == 0.5  # x alone: y has no result for all
    table = as_markdown(results)
    assert "| y | 70.0 (60.0 to 80.0) |  | 25.0 (20.0 to 30.0) |" in table
    assert "The average is over the tasks that all columns have." in table
    assert "BYOL-A" not in table
    assert len(write_report([one, two], tmp_path / "report")) == 4
    three = folder_of(tmp_path / "z_alone", result("z", 0.4))
    apart = gather([one, three])
    assert set(apart["average"].values()) == {None}
    assert "| average |  |  |  |" in as_markdown(apart)
    other = folder_of(tmp_path / "quick", result("x", 0.4, protocol="quick: q"))
    with pytest.raises(ValueError, match="different protocols: lape: as stated; quick: q"):
        gather([one, other])
    other = folder_of(tmp_path / "else", result("x", 0.4, data="e"))
    with pytest.raises(ValueError, match="'x' were measured on different data"):
        gather([one, other])
    with pytest.raises(ValueError, match="different names"):
        gather([one, one])
    (two / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="x.json holds no results"):
        gather([two])
    with pytest.raises(FileNotFoundError, match="holds no results"):
        gather([tmp_path])


def counted_in_groups(task, *counts, channels=32, **changes):
    """A result as `lape run` writes it: `counts` of right answers in each of six groups of five clips, by name."""
    found = {**result(task, 0.5), "results": {}}
    found["about"]["weights"] = {"channels": channels, "dim": 8 * channels}
    for name, right in counts:
        by_group = intervals.written(np.array(right), np.full(6, 5))
        low, high = intervals.clustered(np.array(right), np.full(6, 5))
        cell = {"accuracy": sum(right) / 30, "low": low, "high": high, "clips": 30, "groups": 6}
        found["results"][name] = {**cell, "by_group": by_group, "runs": {}, **changes}
    return found


def test_differences_of_encoders_are_of_the_same_clips(tmp_path):
    ours, theirs = [5, 1, 4, 2, 3, 5], [4, 0, 3, 1, 2, 4]
    one = folder_of(tmp_path / "one", counted_in_groups("x", (TRAINED_ENCODER, ours)))
    two = folder_of(tmp_path / "two", counted_in_groups("x", (TRAINED_ENCODER, theirs)))
    results = gather([one, two])
    apart = results["differences"]["two"]
    assert apart["difference"] == pytest.approx(0.2)
    assert 0 < apart["low"] < 0.2 < apart["high"]  # in each group ahead by one clip: hardly by chance
    alone = results["average_interval"]["one"]
    assert alone == [results["tasks"]["x"]["one"][key] for key in ("low", "high")]
    assert alone[0] < results["average"]["two"]  # each by itself, they could not be told apart
    table, latex = as_markdown(results), as_latex(results)
    assert "| one ahead by |  | 20.0 (" in table
    assert "(speakers, places), not of single clips: x 6." in table
    assert "one ahead by &  & 20.0 {" in latex


def test_what_has_no_interval_is_reported_so(tmp_path):
    given = counted_in_groups(
        "x", (TRAINED_ENCODER, [5, 1, 4, 2, 3, 5]), ("majority class", [1] * 6), low=None, high=None
    )
    folder = folder_of(tmp_path / "a", given)
    write_report([folder], tmp_path / "report")
    table = (tmp_path / "report" / "table.md").read_text()
    assert "| x | 66.7 (no interval) | 20.0 (no interval) |" in table
    assert "| average | 66.7 (no interval) | 20.0 (no interval) |" in table
    assert "No interval, since a class has one or two groups of test clips: x." in table
    assert "66.7 (no interval) &" in (tmp_path / "report" / "table.tex").read_text()


def test_each_size_of_encoder_has_its_own_untrained_baseline(tmp_path):
    def folder(name, channels, untrained):
        counts = [[value] * 6 for value in (4, untrained, 1, 5)]
        names = (TRAINED_ENCODER, "untrained encoder", "majority class", "supervised")
        pairs = zip(names, counts, strict=True)
        return folder_of(tmp_path / name, counted_in_groups("x", *pairs, channels=channels))

    small, large, again = folder("small", 32, 2), folder("large", 64, 3), folder("again", 32, 0)
    row = gather([small, large])["tasks"]["x"]
    assert list(row) == [
        "small",
        "large",
        "untrained encoder, 32 channels, d = 256",
        "untrained encoder, 64 channels, d = 512",
        "majority class",
        "supervised, 32 channels, d = 256",
        "supervised, 64 channels, d = 512",
    ]
    assert [row[name]["accuracy"] for name in list(row)[2:4]] == [0.4, 0.6]
    # Of one size, that of the first folder stands for all, under its plain name.
    alike = gather([small, again])["tasks"]["x"]
    assert list(alike) == ["small", "again", "untrained encoder", "majority class", "supervised"]
    assert alike["untrained encoder"]["accuracy"] == 0.4
    taken = folder_of(tmp_path / "supervised, 64 channels, d = 512", result("x", 0.5))
    with pytest.raises(ValueError, match="Rename the folder 'supervised, 64 channels, d = 512'"):
        gather([small, large, taken])


def test_a_report_is_written_once(tmp_path):
    folder = folder_of(tmp_path / "a", result("x", 0.5))
    files = write_report([folder], tmp_path / "report")
    assert [file.name for file in files] == ["table.md", "table.tex", "figure.png", "results.json"]
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert json.loads(files[3].read_text())["about"]["results"]["a"]["x"]["about"]["data"] == {"sha256": "d"}
    with pytest.raises(ValueError, match=r"table.md is there already"):
        write_report([folder], tmp_path / "report")


def test_a_name_may_hold_any_sign(tmp_path):
    results = gather([folder_of(tmp_path / "a", result("R&B #1 {x} 50% a|b ~^\\", 0.5))])
    line = as_latex(results).splitlines()[7]
    assert line.startswith(
        r"R\&B \#1 \{x\} 50\% a|b \textasciitilde{}\textasciicircum{}\textbackslash{} & 50.0 {"
    )
    rows = as_markdown(results).splitlines()
    assert rows[2].count("|") == rows[0].count("|")


def test_results_never_hide_each_other(tmp_path):
    folders = [folder_of(tmp_path / name, result("x", 0.5)) for name in ("other", "majority class")]
    with pytest.raises(ValueError, match="Rename the folder 'majority class'"):
        gather(folders)
    with pytest.raises(ValueError, match="choose another folder for the report"):
        write_report(folders[:1], tmp_path / "other")
    assert [path.name for path in folders[0].iterdir()] == ["x.json"]


def test_statistics_are_of_the_tasks_own_train_split(own, tmp_path, minute):
    manifest, run = own
    rows = pd.read_csv(manifest)
    # One task of the low tones, one of the high ones: their clips differ.
    halves = [
        part.assign(task=label, label=np.arange(len(part)) % 2) for label, part in rows.groupby("label")
    ]
    pd.concat(halves).to_csv(manifest, index=False)
    torch.save(METHODS["slicer"].network(minute).encoder.state_dict(), tmp_path / "w.pth")
    run("both", "w.pth")
    halves[0].to_csv(manifest, index=False)
    run("alone", "w.pth")
    name = f"{halves[0]['task'].iloc[0]}.json"
    of = [json.loads((tmp_path / out / name).read_text())["about"]["weights"] for out in ("both", "alone")]
    assert (of[0]["mean"], of[0]["deviation"]) == (of[1]["mean"], of[1]["deviation"])


def test_the_command_line_from_weights_to_report(tones, tmp_path, capsys, minute):
    model = METHODS["slicer"].network(minute)
    save_weights(tmp_path / "w.safetensors", model, None, minute, 7)
    run = ["lape", "run", "--weights", str(tmp_path / "w.safetensors"), "--data", str(tones)]
    run += ["--out", str(tmp_path / "results"), "--baselines", "mel", "majority", "--protocol", "quick"]
    main([*run, "--seeds", "0"])
    assert "pitch: trained encoder" in capsys.readouterr().out
    written = (tmp_path / "results" / "pitch.json").read_bytes()
    assert json.loads(written)["about"]["weights"]["step"] == 7
    main([*run, "--seeds", "0"])
    assert "pitch: done already." in capsys.readouterr().out
    assert (tmp_path / "results" / "pitch.json").read_bytes() == written
    with pytest.raises(SystemExit):
        main([*run, "--seeds", "1"])
    assert "of other weights, data or settings" in capsys.readouterr().err
    main(["lape", "report", "--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")])
    assert "| pitch |" in capsys.readouterr().out
    torch.save(model.encoder.state_dict(), tmp_path / "theirs.pth")
    run[3], run[7] = str(tmp_path / "theirs.pth"), str(tmp_path / "others")
    main([*run, "--seeds", "0"])
    weights = json.loads((tmp_path / "others" / "pitch.json").read_text())["about"]["weights"]
    assert weights["name"] == "theirs.pth"
    assert weights["mean"] < -1 < 1 < weights["deviation"]  # measured on the train split
    with pytest.raises(SystemExit):
        main([*run[:4], "--out", str(tmp_path / "none")])
    assert "Give one of --root" in capsys.readouterr().err


def test_what_cannot_be_run_is_said(tones, tmp_path, capsys, minute):
    save_weights(tmp_path / "w.safetensors", METHODS["slicer"].network(minute), None, minute, 7)
    rows = pd.read_csv(tones / "manifest.csv")
    rows["path"] = [str(tones / name) for name in rows["path"]]
    rows["task"] = np.where(rows["split"] == "train", "untested", "unlearnt")
    rows.to_csv(tmp_path / "halves.csv", index=False)

    def said(data, out="results", *more):
        command = ["lape", "run", "--weights", str(tmp_path / "w.safetensors"), "--data", str(data)]
        with pytest.raises(SystemExit) as ended:
            main([*command, "--out", str(tmp_path / out), *more])
        assert ended.value.code == 1
        return capsys.readouterr().err

    halves = said(tmp_path / "halves.csv", "results", "--allow-outside")
    assert "untested: left out. The task 'untested' has no test split." in halves
    assert "unlearnt: left out. The task 'unlearnt' has no train split." in halves
    assert "Error: No task was probed: a task needs labelled clips in a train and in a test split" in halves
    assert "--allow-outside" in said(tmp_path / "halves.csv")
    named = said(tmp_path / "halves.csv", "results", "--allow-outside", "--tasks", "untested")
    assert "Error: The task 'untested' has no test split." in named
    assert "w.safetensors is a file: name a folder" in said(tones, "w.safetensors")
    assert "seed = -1: it must be a whole number from 0 to below 2**32" in said(tones, "r", "--seeds", "-1")
    assert "No seed is given" in said(tones, "r", "--seeds")
    assert "--tasks names none" in said(tones, "r", "--tasks")
    assert not (tmp_path / "r").exists()
    with pytest.raises(SystemExit):
        main(
            [
                "lape",
                "run",
                "--weights",
                "tiny",
                "--root",
                str(tmp_path / "none"),
                "--out",
                str(tmp_path / "r"),
            ]
        )
    assert "none is no folder: give the one that holds the data sets" in capsys.readouterr().err


def test_a_folder_for_results_that_cannot_be_written_to_is_named_before_the_work(own, monkeypatch, capsys):
    def refuse(*_, **__):
        raise PermissionError("Permission denied")

    _, run = own
    monkeypatch.setattr("slicer_lite.lape.run.run_task", lambda *_, **__: pytest.fail("the work has begun"))
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(SystemExit):
        run()
    assert (
        "results cannot be written to (Permission denied): choose another folder" in capsys.readouterr().err
    )


def test_what_is_named_twice_is_done_once(tones, tmp_path, capsys, minute):
    save_weights(tmp_path / "w.safetensors", METHODS["slicer"].network(minute), None, minute, 7)
    run = ["lape", "run", "--weights", str(tmp_path / "w.safetensors"), "--data", str(tones), "--out"]
    run += [
        str(tmp_path / "r"),
        "--protocol",
        "quick",
        "--baselines",
        "majority",
        "majority",
        "--seeds",
        "1",
        "1",
    ]
    main(run)
    assert json.loads((tmp_path / "r" / "pitch.json").read_text())["about"]["seeds"] == [1]
    main(run)
    assert "pitch: done already." in capsys.readouterr().out


def test_of_weights_without_statistics_a_task_that_cannot_be_done_does_not_end_the_others(
    own, tmp_path, capsys, minute
):
    manifest, run = own
    rows = pd.read_csv(manifest)
    silent = rows["path"][rows["split"] == "train"]
    soundfile.write(tmp_path / "data" / "silence.wav", np.zeros(16_000), 16_000)
    quiet = rows.assign(task="quiet", path=rows["path"].mask(rows["path"].isin(silent), "silence.wav"))
    quiet = quiet[~quiet.duplicated("path")]
    pd.concat([quiet, rows]).to_csv(manifest, index=False)
    torch.save(METHODS["slicer"].network(minute).encoder.state_dict(), tmp_path / "w.pth")
    run("results", "w.pth")
    said = capsys.readouterr()
    assert "quiet: left out. All clips sound alike" in said.err
    assert "pitch: trained encoder" in said.out
    with pytest.raises(SystemExit):
        run("results", "w.pth", "--tasks", "pich")
    assert "Error: There is no task 'pich': the tasks are " in capsys.readouterr().err


@pytest.fixture
def own(tmp_path, tones, minute):
    """Labelled clips of one's own: their manifest, and `lape run` on them."""
    save_weights(tmp_path / "w.safetensors", METHODS["slicer"].network(minute), None, minute, 7)
    shutil.copytree(tones, tmp_path / "data")

    def run(out="results", weights="w.safetensors", *more):
        command = [
            "lape",
            "run",
            "--weights",
            str(tmp_path / weights),
            "--data",
            str(tmp_path / "data"),
        ]
        quick = ["--protocol", "quick", "--seeds", "0", "--baselines", "majority"]
        main([*command, "--out", str(tmp_path / out), *quick, *more])

    return tmp_path / "data" / "manifest.csv", run


def test_results_of_other_labels_or_splits_are_not_taken_for_these(own, tmp_path, capsys):
    manifest, run = own
    rows = pd.read_csv(manifest)
    run()
    swapped = rows["label"].map({"low": "high", "high": "low"})
    for change in ({"label": swapped}, {"group": rows["group"] + "x"}):
        rows.assign(**change).to_csv(manifest, index=False)
        with pytest.raises(SystemExit):
            run()
        assert "of other weights, data or settings" in capsys.readouterr().err
    run("others")
    with pytest.raises(ValueError, match="'pitch' were measured on different data"):
        gather([tmp_path / "results", tmp_path / "others"])
    rows.to_csv(manifest, index=False)
    run()
    assert "pitch: done already." in capsys.readouterr().out


def test_a_task_of_any_name_has_a_file_of_its_own(own, tmp_path):
    manifest, run = own
    rows = pd.read_csv(manifest)
    pd.concat([rows.assign(task="a/b"), rows.assign(task="../é")]).to_csv(manifest, index=False)
    run()
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["..%2Fé.json", "a%2Fb.json"]
    assert list(gather([tmp_path / "results"])["tasks"]) == ["../é", "a/b"]


def test_tasks_of_very_long_names_have_files_too(own, tmp_path, capsys):
    manifest, run = own
    rows = pd.read_csv(manifest)
    tasks = ["é" * 300 + end for end in "ab"]  # alike for longer than a file's name may be
    pd.concat([rows.assign(task=task) for task in tasks]).to_csv(manifest, index=False)
    run()
    assert all(len(os.fsencode(path.name)) <= 125 for path in (tmp_path / "results").iterdir())
    assert list(gather([tmp_path / "results"])["tasks"]) == tasks
    run()
    assert capsys.readouterr().out.count("done already") == 2
