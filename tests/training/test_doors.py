"""What people may bring through the doors for methods and encoders, and what goes wrong with it in words."""

import pytest
import torch
from networks import Bands
from torch import nn

import slicer_lite as sl
from slicer_lite.explore.embed import embed
from slicer_lite.method.method import Method, Panel, make_teacher
from slicer_lite.method.moco import MoCoNetwork
from slicer_lite.share.weights import untrained_encoder
from slicer_lite.training.curves import curves
from slicer_lite.training.run_folder import read_metrics


@pytest.fixture
def clips(tones):
    return sl.load_clips(tones, progress=False)


class Alike(Method):
    """No teacher, no queue: two views should have one key."""

    name = "alike"
    network = MoCoNetwork
    panels = (Panel("distance", "", {"distance": "distance"}, high=2),)

    def step(self, view1, view2, clips=None):
        s1, s2 = self.student(view1), self.student(view2)
        distance = (s1.key - s2.key).square().sum(1).mean()
        return {"total": distance, "distance": distance}, (s1, s2, None, None)


def test_a_method_without_a_teacher_trains_is_judged_and_drawn(clips, minute, tmp_path):
    sl.pretrain(minute, clips, tmp_path, steps=2, progress=False, method=Alike)
    last = read_metrics(tmp_path)[-1]
    assert {"distance", "rank", "uniformity", "alignment"} <= last.keys()
    assert not {"drift", "teacher_pace"} & last.keys()
    assert [axes.get_title() for axes in curves(tmp_path).axes] == ["distance", "embedding rank"]
    assert sl.load(tmp_path, method=Alike).step == 2


class Renamed(sl.SLICER):
    """Without a name of its own."""


def test_a_method_is_never_taken_for_the_one_that_it_was_made_from(clips, minute, tmp_path):
    assert (
        sl.pretrain(minute, clips, tmp_path, steps=1, progress=False, method=Renamed).config.method
        == "Renamed"
    )
    Taken = type("Taken", (sl.SLICER,), {"name": "slicer"})  # noqa: N806
    for method in (Taken, lambda config, encoder: sl.SLICER(config, encoder)):
        with pytest.raises(ValueError, match="is no name of its own"):
            sl.pretrain(minute, clips, tmp_path / "other", steps=1, progress=False, method=method)


def test_the_teacher_has_no_dropout_within_attention_and_recurrent_layers():
    layers = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, dropout=0.5), nn.GRU(8, 8, 2, dropout=0.5)])
    teacher, x = make_teacher(layers).train(), torch.randn(5, 3, 8)
    for layer in teacher:
        one, other = (layer(x) for _ in range(2))
        torch.testing.assert_close(one, other)


class Small(sl.Encoder):
    """An encoder made from ours, with another forward pass."""

    def __init__(self):
        super().__init__(channels=4, dim=16, dropout=0.0)

    def forward(self, lms):
        return -super().forward(lms)


def test_an_encoder_made_from_ours_stays_what_it_is(clips, minute, tmp_path):
    trained = sl.pretrain(minute, clips, tmp_path, steps=2, progress=False, encoder=Small)
    again = sl.load(tmp_path, encoder=Small)
    assert type(again.encoder) is type(untrained_encoder(trained.encoder)) is Small
    assert (embed(again.encoder, clips) <= 0).all()
    with pytest.raises(ValueError, match="its encoder is Small, not AudioNTT"):
        sl.load(tmp_path)
    with pytest.raises(ValueError, match="encoder: 'Small' there, 'AudioNTT' here"):
        sl.pretrain(minute, clips, tmp_path, steps=2, progress=False)


class Reads(Bands):
    """Looks at numbers while it is made, as many networks do."""

    def __init__(self):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 4)]


def test_an_encoder_is_made_as_its_maker_expects(clips, minute, tmp_path):
    torch.manual_seed(0)
    assert sl.pretrain(minute, clips, tmp_path, steps=1, progress=False, encoder=Reads).step == 1
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    sl.load(tmp_path, encoder=Reads)
    assert torch.rand(1) == expected


def test_one_network_for_all_is_refused(clips, minute, tmp_path):
    network = Bands()
    with pytest.raises(ValueError, match="of which every run would change the same weights"):
        sl.pretrain(minute, clips, tmp_path, steps=1, progress=False, encoder=network)
    with pytest.raises(ValueError, match="gives the same one again"):
        sl.pretrain(minute, clips, tmp_path, steps=1, progress=False, encoder=lambda: network)
    assert not (tmp_path / "config.json").exists()


class Tied(Bands):
    """Two names for one weight."""

    def __init__(self):
        super().__init__()
        self.same = self.layer


def test_weights_that_are_tied_are_saved_and_loaded(clips, minute, tmp_path):
    sl.pretrain(minute, clips, tmp_path, steps=2, progress=False, encoder=Tied)
    encoder = sl.load_encoder(tmp_path, encoder=Tied).module
    assert encoder.same.weight is encoder.layer.weight
