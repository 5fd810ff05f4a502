"""Coming from the released toolkit, and going back to it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import slicer_lite as sl
from slicer_lite.lape import from_lape, load_audiontt, load_lape, save_lape, to_lape
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share.weights import Pretrained

GOLDEN = Path(__file__).parents[1] / "golden" / "reference_vectors.npz"
BLOCK = [f"0.{kind}" for kind in ("weight", "bias")]
BLOCK += [f"1.{kind}" for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
# As the released code names the tensors of its student.
RELEASED = {
    *(f"encoder_q.encoder.features_{block}.{rest}" for block in (1, 2, 3) for rest in BLOCK),
    *(f"encoder_q.encoder.fc.{layer}.{kind}" for layer in (0, 3) for kind in ("weight", "bias")),
    *(f"encoder_q.instance_projector.{kind}" for kind in ("weight", "bias")),
    *(f"encoder_q.cluster_projector.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")),
}


@pytest.fixture
def pretrained():
    config = sl.preset("tiny", channels=8, dim=32, clusters=6, projection_dim=12)
    network = SLICERNetwork(config).eval().requires_grad_(False)
    network.encoder.mean.fill_(-6.5)
    network.encoder.deviation.fill_(4.25)
    for block in network.encoder.features:
        block[1].running_mean.uniform_(-1, 1)
        block[1].running_var.uniform_(0.5, 2)
        block[1].num_batches_tracked.fill_(2000)
    return Pretrained(network, torch.randn(4, 64), config, 7)


def same(one, other):
    x = torch.randn(3, 1, 64, 96)
    for here, there in zip(one.network(x), other.network(x), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=0)


def test_the_names_are_the_released_ones(pretrained):
    assert set(to_lape(pretrained)) == RELEASED
    with np.load(GOLDEN, allow_pickle=False) as golden:
        names = {name.partition(".")[2] for name in golden.files if name.startswith("encoder_state.")}
    assert {f"encoder_q.encoder.{name}" for name in names} < RELEASED


def test_there_and_back(pretrained, tmp_path):
    path = tmp_path / "slicer.ckpt"
    save_lape(pretrained, path)
    again = load_lape(path)
    same(pretrained, again)
    assert again.config == pretrained.config
    assert again.step == 7
    assert torch.equal(again.centroids, pretrained.centroids)
    assert again.encoder.mean.item() == -6.5
    assert again.encoder.deviation.item() == 4.25
    assert not again.network.training
    assert load_lape(path, mean=-5.0, deviation=3.0).encoder.mean.item() == -5.0


def test_a_setting_of_a_later_version_is_left_out_with_a_note(pretrained, tmp_path):
    save_lape(pretrained, tmp_path / "slicer.ckpt")
    content = torch.load(tmp_path / "slicer.ckpt", weights_only=True)
    content["slicer-lite"]["config"]["tempo"] = 3
    content["slicer-lite"]["version"] = "7.1"
    torch.save(content, tmp_path / "slicer.ckpt")
    with pytest.warns(
        UserWarning, match=r"slicer\.ckpt has settings .*: tempo\. It was written by slicer-lite 7\.1"
    ):
        assert load_lape(tmp_path / "slicer.ckpt").config == pretrained.config


def test_what_the_released_scripts_read_is_there(pretrained, tmp_path):
    """Its downstream script takes the entry `state_dict` and drops `encoder_q.` from the names [R]."""
    save_lape(pretrained, tmp_path / "slicer.ckpt")
    state = torch.load(tmp_path / "slicer.ckpt", weights_only=True)["state_dict"]
    theirs = {name.replace("encoder_q.", ""): value for name, value in state.items()}
    assert torch.equal(theirs["encoder.fc.3.bias"], pretrained.encoder.fc[3].bias)
    assert {"encoder.features_1.0.weight", "encoder.features_3.1.running_var"} < set(theirs)


def test_a_lightning_checkpoint_with_teacher_and_queue(pretrained, tmp_path):
    state = to_lape(pretrained)
    state |= {
        name.replace("encoder_q", "encoder_k"): torch.randn_like(v.float()) for name, v in state.items()
    }
    state |= {"queue": torch.randn(12, 64), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    torch.save(
        {"epoch": 49, "global_step": 10, "state_dict": state, "callbacks": {}}, tmp_path / "final.ckpt"
    )
    found = load_lape(tmp_path / "final.ckpt", mean=-6.5, deviation=4.25)
    same(pretrained, found)
    assert (found.config.channels, found.config.dim) == (8, 32)
    assert (found.config.clusters, found.config.projection_dim) == (6, 12)
    assert load_lape(tmp_path / "final.ckpt").encoder.deviation.item() == 1.0


def test_reading_disturbs_no_random_numbers(pretrained):
    state = to_lape(pretrained)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    from_lape(state)
    assert torch.equal(torch.rand(1), expected)


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_objects_beside_the_weights_are_never_made(pretrained, tmp_path):
    proof = tmp_path / "proof"
    torch.save({"state_dict": to_lape(pretrained), "hyper_parameters": Planted(proof)}, tmp_path / "p.ckpt")
    with pytest.raises(ValueError, match="keep its weights only: import torch; c = torch.load"):
        load_lape(tmp_path / "p.ckpt")
    (tmp_path / "q.ckpt").write_bytes(pickle.dumps(Planted(proof)))
    with pytest.raises(ValueError, match="cannot be read"):
        load_lape(tmp_path / "q.ckpt")
    assert not proof.exists()


def test_other_checkpoints_are_refused(pretrained, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_lape(tmp_path / "no.ckpt")
    torch.save({"state_dict": to_lape(pretrained)}, tmp_path / "half.ckpt")
    half = (tmp_path / "half.ckpt").read_bytes()[:1000]
    for content in (b"", b"hello world, not a checkpoint\n", half):
        (tmp_path / "broken.ckpt").write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.ckpt is damaged, or no checkpoint of PyTorch"):
            load_lape(tmp_path / "broken.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match="holds no state dict but list"):
        load_lape(tmp_path / "list.ckpt")
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt: No SLICER student"):
        load_lape(tmp_path / "other.ckpt")
    state = to_lape(pretrained)
    with pytest.raises(ValueError, match=r"missing.*fc\.0\.weight"):
        from_lape({name: value for name, value in state.items() if not name.endswith("fc.0.weight")})
    other = Pretrained(pretrained.network, None, pretrained.config.replace(method="moco"), 1)
    with pytest.raises(ValueError, match="method = 'moco'"):
        to_lape(other)
    heads = state | {"encoder_q.instance_projector.weight": torch.zeros(12, 5)}
    with pytest.raises(ValueError, match="do not fit the encoder"):
        from_lape(heads)
    for name, shape in (("fc.3.weight", (5, 5)), ("features_1.0.weight", (8,)), ("fc.0.weight", (0, 64))):
        with pytest.raises(ValueError, match="Not an AudioNTT encoder: "):
            from_lape(state | {f"encoder_q.encoder.{name}": torch.zeros(shape)})
    with pytest.raises(ValueError, match=r"deviation = 0\.0: both must be finite"):
        from_lape(state, -6.5, 0.0)
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_lape(tmp_path)


def test_what_stands_beside_the_weights_has_to_fit_them(pretrained, tmp_path):
    path = tmp_path / "slicer.ckpt"
    save_lape(pretrained, path)
    content = torch.load(path, weights_only=True)
    content["slicer-lite"]["config"]["dim"] = 999
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"slicer\.ckpt: dim = 999 in its settings, and 32 in its weights"):
        load_lape(path)
    content["slicer-lite"]["mean"] = "loud"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"slicer\.ckpt: "):
        load_audiontt(path)


def test_a_head_that_lape_does_not_have_is_refused(minute):
    config = minute.replace(projection_layers=2)
    with pytest.raises(ValueError, match="LAPE's instance head is one layer"):
        to_lape(Pretrained(SLICERNetwork(config), None, config, 0))
