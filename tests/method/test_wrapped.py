"""Any network as an encoder: what it gets, what is asked of it, and how baselines make another."""

import copy

import pytest
import torch
from networks import Bands

import slicer_lite as sl
from slicer_lite.method.wrapped import Wrapped, as_encoder, fresh


def test_a_network_gets_what_encoders_have():
    module = Bands()
    encoder = as_encoder(module)
    assert isinstance(encoder, sl.FrameEncoder) and encoder.dim == 16 and encoder.n_mels == 64
    lms = torch.randn(3, 1, 64, 96)
    assert torch.equal(encoder(lms), module(lms)) and encoder(lms).shape == (3, 24, 16)
    encoder.mean.fill_(2.0)
    encoder.deviation.fill_(4.0)
    assert encoder.standardise(torch.tensor(10.0)).item() == 2.0
    assert {"mean", "deviation", "module.layer.weight"} < set(encoder.state_dict())


def test_an_encoder_stays_itself():
    ours = sl.Encoder(channels=2, dim=4)
    assert as_encoder(ours) is ours
    wrapped = as_encoder(Bands())
    assert as_encoder(wrapped) is wrapped


def test_trying_leaves_no_trace():
    module = Bands().train()
    module.norm.eval()  # a part with a mode of its own
    before = copy.deepcopy(module.state_dict())
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    encoder = as_encoder(module)
    assert torch.equal(torch.rand(2), expected)
    assert encoder.training and module.training and not module.norm.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not as_encoder(Bands().eval()).training


def test_on_the_meta_device_it_is_not_tried():
    with torch.device("meta"):
        assert as_encoder(Bands).mean.is_meta


@pytest.mark.parametrize("make", [Bands, lambda: Bands(dim=8), lambda: sl.Encoder(channels=2, dim=4)])
def test_a_factory_makes_others_by_seed(make):
    encoder = as_encoder(make)
    torch.manual_seed(1)
    one = fresh(encoder)
    torch.manual_seed(1)
    expected = make()
    inside = one.module if isinstance(one, Wrapped) else one
    assert type(inside) is type(expected)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, inside.state_dict()[name]), name
    assert one.dim == fresh(one).dim == encoder.dim  # as does a fresh one


def test_another_of_audiontt_has_its_size():
    other = fresh(sl.Encoder(channels=3, dim=8, dropout=0.0))
    assert (other.channels, other.dim) == (3, 8)


def test_what_cannot_be_made_anew_is_said():
    with pytest.raises(ValueError, match="how to make another Bands with new weights is not known"):
        fresh(as_encoder(Bands()))
    module = Bands()
    with pytest.raises(ValueError, match="another Bands gives the same one again"):
        fresh(as_encoder(lambda: module))


def test_a_pooling_of_ones_own_is_used():
    class Mean(sl.FrameEncoder):
        def __init__(self):
            super().__init__(64)

        def forward(self, lms):
            return lms.squeeze(1).transpose(1, 2)

        @staticmethod
        def pool(frames):
            return frames.mean(-2)

    encoder, clip = as_encoder(Mean), torch.rand(30_400) - 0.5
    lms = sl.LogMel()(clip.view(2, -1))
    expected = lms.mean(-1).squeeze(1).mean(0)
    torch.testing.assert_close(torch.from_numpy(sl.embed(encoder, [clip.numpy()])[0]), expected)
