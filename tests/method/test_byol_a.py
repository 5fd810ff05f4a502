"""BYOL-A through the same door as every method: its loss by hand, its gradients, a run and all behind it."""

import pytest
import torch

import slicer_lite as sl
from slicer_lite.explore import clusters
from slicer_lite.method.byol_a import BYOLA
from slicer_lite.method.registry import METHODS, new_method
from slicer_lite.share.hear import HearModel, get_scene_embeddings
from slicer_lite.training.curves import curves
from slicer_lite.training.run_folder import read_metrics


@pytest.fixture
def config(minute):
    return minute.replace(method="byol_a", projection_dim=8)


def views():
    return torch.randn(6, 1, 64, 96), torch.randn(6, 1, 64, 96)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_loss_by_hand(config, symmetric):
    model = BYOLA(config.replace(dropout=0.0, symmetric=symmetric))
    parts, (s1, s2, t1, t2) = model.step(*views())
    expected = []
    for student, teacher in [(s1, t2), (s2, t1)][: 1 + symmetric]:
        foretold = torch.nn.functional.normalize(model.predictor(student.key), dim=1)
        comes = torch.nn.functional.normalize(teacher.key, dim=1)
        expected.append((foretold - comes).square().sum(1).mean())
    assert parts["prediction"].item() == pytest.approx(sum(expected).item(), rel=1e-5)
    assert parts["total"] is parts["prediction"]
    assert (s2 is None) == (t1 is None) == (not symmetric)


def test_what_is_foretold_rightly_costs_nothing_and_the_opposite_four(config):
    model = BYOLA(config)
    model.predictor = torch.nn.Identity()
    x = torch.randn(5, 8)
    assert model._prediction(x, 3 * x).item() == pytest.approx(0, abs=1e-6)
    assert model._prediction(x, -x).item() == pytest.approx(4)


def test_the_gradient_reaches_student_and_predictor_and_not_the_teacher(config):
    model = BYOLA(config)
    model.loss(*views())["total"].backward()
    for part in (model.student, model.predictor):
        assert all(weight.grad is not None for weight in part.parameters())
    assert all(weight.grad is None for weight in model.teacher.parameters())


def test_the_teacher_moves_by_its_momentum(config):
    model = BYOLA(config.replace(teacher_momentum=0.75))
    with torch.no_grad():
        for weight in model.student.parameters():
            weight += 1
    before = [weight.clone() for weight in model.teacher.parameters()]
    model.loss(*views())
    for old, new in zip(before, model.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)


def test_it_pays_for_no_queue(config):
    assert not any("queue" in name for name in BYOLA(config).state_dict())


def test_a_run_resumes_and_all_that_stands_behind_it_works(tones, tmp_path, config):
    clips = sl.load_clips(tones, progress=False)
    whole = sl.pretrain(config, clips, tmp_path / "whole", progress=False)
    state = {name: value.clone() for name, value in whole.network.state_dict().items()}

    def until(step, stop):
        return lambda metrics: metrics["step"] == step and stop.set()

    import threading

    stop = threading.Event()
    sl.pretrain(config, clips, tmp_path / "parts", progress=False, stop=stop, on_step=until(5, stop))
    resumed = sl.pretrain(config, clips, tmp_path / "parts", progress=False)
    assert all(torch.equal(state[name], value) for name, value in resumed.network.state_dict().items())
    metrics = read_metrics(tmp_path / "parts")
    assert len(metrics) == 12
    assert {"prediction", "rank", "uniformity", "alignment", "drift", "teacher_pace"} <= metrics[-1].keys()
    assert not {"instance", "cluster", "clusters_used"} & metrics[-1].keys()
    titles = [axes.get_title() for axes in curves(tmp_path / "parts").axes]
    assert titles == ["prediction loss", "embedding rank"]
    embeddings = sl.embed(sl.load(tmp_path / "parts").encoder, clips)
    assert embeddings.shape == (48, 16)
    scenes = get_scene_embeddings(torch.zeros(1, 16_000), HearModel(resumed.encoder))
    assert scenes.shape == (1, 16)
    with pytest.raises(ValueError, match="no clusters: their method is byol_a"):
        clusters.soft_assignments(resumed, embeddings)


class Mean(sl.SLICER):
    """A method of one's own: SLICER that says something else of itself."""

    name = "mean"
    weights = ("cluster_weight",)

    def step(self, view1, view2, clips=None):
        parts, answers = super().step(view1, view2, clips)
        return {"total": parts["cluster"], "mine": parts["cluster"]}, answers


def test_a_method_of_ones_own_trains_loads_and_is_drawn(tones, tmp_path, minute):
    clips = sl.load_clips(tones, progress=False)
    trained = sl.pretrain(minute, clips, tmp_path, steps=2, progress=False, method=Mean)
    assert trained.config.method == "mean"
    assert "mine" in read_metrics(tmp_path)[-1]
    assert curves(tmp_path).axes
    assert sl.load(tmp_path, method=Mean).step == 2
    with pytest.raises(
        ValueError, match="no method 'mean'. The methods are: slicer, moco, .*given as method="
    ):
        sl.load(tmp_path)
    with pytest.raises(ValueError, match="its method is 'mean', not 'byol_a'"):
        sl.load(tmp_path, method=BYOLA)


def test_every_method_is_found_by_its_name(minute):
    for name in METHODS:
        assert new_method(minute.replace(method=name)).name == name
    with pytest.raises(ValueError, match="There is no method 'simclr'"):
        new_method(minute.replace(method="simclr"))
