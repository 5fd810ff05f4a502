"""Embeddings by the one window rule, and weights that travel safely."""

import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import slicer_lite as sl
from slicer_lite.audio.table import read_table
from slicer_lite.config import WINDOW
from slicer_lite.explore.embed import mel_statistics, window_starts
from slicer_lite.share import weights
from slicer_lite.share.weights import load_finished, save_weights, untrained


@pytest.fixture(scope="module")
def trained(tones, minute, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    sl.pretrain(minute, tones, run, steps=3, progress=False)
    return run


@given(samples=st.integers(1, 400_000))
def test_windows_are_evenly_spaced_from_start_to_end(samples):
    starts = window_starts(samples)
    assert len(starts) == max(1, samples // WINDOW)
    assert starts[0] == 0
    if len(starts) > 1:
        assert starts[-1] == samples - WINDOW
        assert np.ptp(np.diff(starts)) <= 1


def test_an_embedding_is_the_mean_over_windows(trained):
    encoder = sl.load_encoder(trained)
    clip = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * WINDOW + 777).astype(np.float32)
    cut = [clip[start : start + WINDOW] for start in window_starts(len(clip))]
    lms = encoder.standardise(sl.LogMel()(torch.from_numpy(np.stack(cut))))
    expected = sl.Encoder.pool(encoder(lms)).mean(0)
    np.testing.assert_allclose(sl.embed(encoder, [clip])[0], expected.numpy(), rtol=1e-4, atol=1e-5)


@given(lengths=st.lists(st.integers(1, 50_000), min_size=1, max_size=5), batch_size=st.integers(1, 7))
def test_lengths_and_batches_do_not_matter(lengths, batch_size):
    torch.manual_seed(0)
    encoder = sl.Encoder(channels=2, dim=4)
    rng = np.random.default_rng(sum(lengths))
    clips = [rng.uniform(-1, 1, length).astype(np.float32) for length in lengths]
    together = sl.embed(encoder, clips, batch_size=batch_size)
    alone = np.concatenate([sl.embed(encoder, [clip]) for clip in clips])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert encoder.training  # as it was


def test_parts_in_another_mode_stay_in_it():
    encoder = sl.Encoder(channels=2, dim=4).train()
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()  # frozen, as in fine-tuning
    sl.embed(encoder, [np.zeros(WINDOW, np.float32)])
    assert encoder.training and not any(norm.training for norm in norms)


def test_table_and_arrays_agree(trained, tones):
    clips = sl.load_clips(tones, progress=False)
    encoder = sl.load_encoder(trained)
    arrays = [clips[i] for i in range(len(clips))]
    np.testing.assert_allclose(sl.embed(encoder, clips), sl.embed(encoder, arrays), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sl.embed(encoder, tones), sl.embed(encoder, clips))
    np.testing.assert_allclose(sl.embed(encoder, read_table(tones)), sl.embed(encoder, clips))


def test_mel_statistics_are_means_and_deviations():
    clip = np.random.default_rng(0).uniform(-0.5, 0.5, WINDOW).astype(np.float32)
    lms = sl.LogMel()(torch.from_numpy(clip)[None])[0, 0].numpy()
    expected = np.concatenate([lms.mean(1), lms.std(1)])
    np.testing.assert_allclose(mel_statistics([clip])[0], expected, rtol=1e-4)


def test_loaded_is_saved(trained):
    model = sl.load(trained)
    again = sl.load(trained / "weights.safetensors")
    assert model.step == 3
    assert model.config.dim == 16
    assert model.centroids.shape == (4, 64)
    assert not model.network.training
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    assert model.network.assign(torch.randn(2, 16)).sum(1).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_loading_draws_no_random_numbers_of_the_caller(trained):
    before = torch.get_rng_state()
    sl.load(trained)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_finished_runs_are_loaded_as_such(trained, tmp_path):
    finished = load_finished(trained)
    assert finished.step == 3
    assert load_finished(tmp_path) is None
    save_weights(tmp_path / "weights.safetensors", finished.network, None, finished.config, 2)
    assert load_finished(tmp_path) is None


def test_equal_weights_are_equal_files(trained, tmp_path):
    model = sl.load(trained)
    for name in "ab":
        save_weights(tmp_path / name, model.network, model.centroids, model.config, model.step, model.heard)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() == (trained / "weights.safetensors").read_bytes()


def test_an_encoder_is_frozen_until_it_is_told_to_learn(trained):
    encoder = sl.load_encoder(trained)
    assert not encoder.training and not any(weight.requires_grad for weight in encoder.parameters())
    encoder.requires_grad_(True).train()  # as `load_encoder` says
    waveforms = torch.rand(4, WINDOW) - 0.5
    embeddings = encoder.pool(encoder(encoder.standardise(sl.LogMel()(waveforms))))
    embeddings.square().sum().backward()
    assert embeddings.shape == (4, 16)
    assert all(weight.grad is not None for weight in encoder.parameters())
    for part in ("frozen", "requires_grad_(True).train()", "encoder.pool("):
        assert part in sl.load_encoder.__doc__


def test_untrained_has_other_weights_and_the_same_statistics(trained):
    model = sl.load(trained)
    plain, again, other = untrained(model, 0), untrained(model, 0), untrained(model, 1)
    assert plain.encoder.mean == model.encoder.mean
    weight = plain.encoder.fc[0].weight
    assert torch.equal(weight, again.encoder.fc[0].weight)
    assert not torch.equal(weight, other.encoder.fc[0].weight)
    assert not torch.equal(weight, model.encoder.fc[0].weight)


class Planted:
    """Unpickling this would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


PLACES = {
    "weights.safetensors": "not a readable safetensors file",
    "snapshots/step-00000001.safetensors": "not a readable safetensors file",
    "config.json": "is damaged",
    "checkpoint": "All checkpoints .* are damaged",
    "index.npz": "is damaged",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_a_planted_pickle_is_never_run(tones, minute, tmp_path, monkeypatch, place):
    proof = tmp_path / "proof"
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    sl.pretrain(minute, tones, run, steps=1, progress=False)
    poison = pickle.dumps(Planted(proof))
    if place == "index.npz":  # an array of objects, which NumPy would unpickle if it were allowed to
        (path,) = (tmp_path / "cache" / "stores").glob("*/index.npz")
        np.savez(path, kept=np.array([Planted(proof)]), lengths=np.array([1]))
    else:
        for path in run.glob("checkpoints/*") if place == "checkpoint" else [run / place]:
            path.write_bytes(poison)
    with pytest.raises(ValueError, match=PLACES[place]):
        if place.endswith(".safetensors"):
            sl.load(run / place)
        else:
            sl.pretrain(minute, tones, run, steps=1, progress=False)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: None, FileNotFoundError, "does not exist"),
        (lambda p: p.mkdir(), FileNotFoundError, "holds no weights.safetensors"),
        (lambda p: p.write_text("hello"), ValueError, "not a readable safetensors file"),
        (
            lambda p: p.write_bytes(safetensors.torch.save({"a": torch.zeros(1)})),
            ValueError,
            "holds no slicer-lite weights",
        ),
        (
            lambda p: p.write_bytes(
                safetensors.torch.save(
                    {"a": torch.zeros(1)},
                    {"slicer-lite": json.dumps({"format": "weights 1", "step": 1, "config": {"dim": 16}})},
                )
            ),
            ValueError,
            "does not fit together",
        ),
        (
            lambda p: p.write_bytes(
                safetensors.torch.save(
                    {"a": torch.zeros(1)},
                    {"slicer-lite": json.dumps({"format": "weights 1", "step": 1, "config": {"dim": -1}})},
                )
            ),
            ValueError,
            "dim = -1",
        ),
    ],
)
def test_what_is_no_weights_file(tmp_path, make, error, message):
    path = tmp_path / "w.safetensors"
    make(path)
    with pytest.raises(error, match=message):
        sl.load(path)


@pytest.mark.parametrize("name", weights.shipped())
def test_shipped_weights_have_a_card_and_embed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = sl.load_encoder(name)
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, 16_000).astype(np.float32)
    assert np.isfinite(sl.embed(encoder, [sound])).all()
    assert encoder.deviation > 1
    card = (weights.SHIPPED / f"{name}.md").read_text()
    for part in ("Data", "Recipe", "Scores", "Limits"):
        assert f"\n## {part}\n" in card
    (tmp_path / name).mkdir()  # a folder of that name comes first
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        sl.load(name)


def test_shipped_weights_are_there_and_small():
    assert weights.shipped() == ["small", "tiny"]
    sizes = [(weights.SHIPPED / f"{name}.safetensors").stat().st_size for name in weights.shipped()]
    assert sum(sizes) < 8e6


def test_no_clips_to_embed_is_said(trained, tones):
    nothing = sl.load_clips(tones, progress=False).subset(np.zeros(0, int))
    with pytest.raises(ValueError, match="no clips to embed"):
        sl.embed(sl.load_encoder(trained), nothing)
