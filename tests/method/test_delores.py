"""DeLoRes-M and plain momentum contrast, in the same trainer as SLICER."""

import pytest
import torch

import slicer_lite as sl
from slicer_lite.explore import clusters
from slicer_lite.method import losses
from slicer_lite.method.delores import DeLoResM
from slicer_lite.method.losses import decorrelation
from slicer_lite.method.moco import MoCo
from slicer_lite.method.registry import new_method
from slicer_lite.method.slicer import SLICER
from slicer_lite.training.run_folder import read_metrics

SCALE = 5e-5 / 32


def views(count=8):
    return torch.randn(count, 1, 64, 96), torch.randn(count, 1, 64, 96)


def test_decorrelation_is_zero_for_equal_uncorrelated_features():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert decorrelation(x, x).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "squares"),
    [
        ([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], [[-1.0, -1], [-1, 1], [1, -1], [1, 1]], 8),  # C = -1
        ([[1.0, 1], [-1, -1]], [[1.0, 1], [-1, -1]], 2),  # each feature repeats the other: C is all ones
        ([[3.0], [5.0], [3.0], [5.0]], [[0.0], [0.0], [7.0], [7.0]], 1),  # unrelated, whatever their scale
    ],
)
def test_decorrelation_by_hand(x, y, squares):
    assert decorrelation(torch.tensor(x), torch.tensor(y)).item() == pytest.approx(SCALE * squares, rel=1e-4)


def test_decorrelation_is_the_sum_of_both_parts_of_the_correlation_matrix():
    x, y = torch.randn(40, 6, dtype=torch.float64), torch.randn(40, 6, dtype=torch.float64)
    correlation = torch.corrcoef(torch.cat([x, y], dim=1).T)[:6, 6:]
    on = (correlation.diagonal() - 1).square().sum()
    off = correlation.square().sum() - correlation.diagonal().square().sum()
    # Deviations have 1e-5 added to the variance, hence the tolerance.
    assert decorrelation(x, y).item() == pytest.approx(SCALE * (on + off).item(), rel=1e-4)


def test_total_is_the_weighted_sum_of_the_parts(minute):
    config = minute.replace(method="delores_m", instance_weight=0.5, decorrelation_weight=30.0)
    parts = DeLoResM(config).loss(*views())
    assert list(parts) == ["total", "instance", "decorrelation"]
    torch.testing.assert_close(parts["total"], 0.5 * parts["instance"] + 30 * parts["decorrelation"])


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_decorrelation_part_by_hand(minute, symmetric):
    model = DeLoResM(minute.replace(method="delores_m", dropout=0.0, symmetric=symmetric))
    view1, view2 = views()
    parts, (s1, s2, t1, t2) = model.step(view1, view2)
    # channels x half, a quarter and an eighth of the mel bands, each averaged over time
    assert [tuple(block.shape) for block in s1.blocks] == [(8, 4 * 32), (8, 4 * 16), (8, 4 * 8)]
    pairs = [(s1, t2), (s2, t1)] if symmetric else [(s1, t2)]
    expected = sum(
        decorrelation(model.projectors[i](s.blocks[i]), model.projectors[i](t.blocks[i]))
        for s, t in pairs
        for i in range(3)
    )
    torch.testing.assert_close(parts["decorrelation"], expected)


def test_blocks_are_the_encoders(minute):
    encoder = sl.Encoder(channels=4, dim=16).eval()
    view, _ = views(2)
    blocks = encoder.blocks(view)
    torch.testing.assert_close(blocks[-1], encoder.features(view))
    torch.testing.assert_close(encoder.frames(blocks[-1]), encoder(view))


def test_gradients_reach_student_and_projectors_only(minute):
    model = DeLoResM(minute.replace(method="delores_m"))
    model.loss(*views())["total"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    trained = {**dict(model.student.named_parameters()), **dict(model.projectors.named_parameters())}
    assert not [name for name, p in trained.items() if p.grad is None]


def test_one_direction_puts_in_one_key_a_clip(minute):
    for symmetric, keys in ((True, 16), (False, 8)):
        model = MoCo(minute.replace(method="moco", symmetric=symmetric))
        parts, (_, _, _, t2) = model.step(*views())
        assert int(model.queued) == keys
        assert list(parts) == ["total", "instance"]
        torch.testing.assert_close(model.queue[:8], t2.key)


def test_moco_is_slicer_without_its_cluster_loss(minute):
    config = minute.replace(cluster_weight=0.0)
    slicer = SLICER(config)
    plain = MoCo(config.replace(method="moco"))
    plain.load_state_dict({k: v for k, v in slicer.state_dict().items() if "cluster_head" not in k})
    view1, view2 = views()
    grads = []
    for model in (slicer, plain):
        torch.manual_seed(1)  # of the dropout
        model.loss(view1, view2)["total"].backward()
        grads.append(model.student.encoder.fc[0].weight.grad)
    assert torch.equal(*grads)


def test_twenty_steps_decorrelate(minute):
    model = DeLoResM(minute.replace(method="delores_m", dropout=0.0, instance_weight=0.0))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, 1e-3)
    view1, view2 = views(32)
    found = []
    for _ in range(21):
        parts = model.loss(view1, view1 + 0.1 * view2)
        found.append(parts["decorrelation"].item())
        parts["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert found[-1] < 0.8 * found[0]


@pytest.mark.usefixtures("drawn")
def test_a_run_saves_and_loads(tones, tmp_path, minute):
    clips = sl.load_clips(tones, progress=False)
    trained = sl.pretrain(
        minute.replace(method="delores_m"), clips, tmp_path / "run", steps=2, progress=False
    )
    assert not any("cluster" in name for name in read_metrics(tmp_path / "run")[-1])
    assert (tmp_path / "run" / "curves.png").exists()
    assert not any("projector" in name for name in trained.network.state_dict())
    embeddings = sl.embed(sl.load(tmp_path / "run").encoder, clips)
    assert embeddings.shape == (48, 16)
    with pytest.raises(ValueError, match="no clusters: their method is delores_m"):
        clusters.soft_assignments(trained, embeddings)


@pytest.mark.parametrize("method", ["slicer", "delores_m", "moco"])
def test_a_method_without_any_loss_is_refused(minute, method):
    nothing = {"instance_weight": 0.0, "cluster_weight": 0.0, "decorrelation_weight": 0.0}
    with pytest.raises(ValueError, match="= 0: nothing would be learnt"):
        new_method(minute.replace(method=method, **nothing))


def test_the_correlation_is_computed_in_single_precision(minute):
    x, y = torch.randn(64, 32), torch.randn(64, 32)
    exact = losses.decorrelation(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert losses.decorrelation(x, y).item() == pytest.approx(exact.item(), rel=1e-3)


@pytest.mark.parametrize("part", ["instance", "decorrelation"])
def test_a_term_of_weight_0_is_not_computed(minute, part):
    model = DeLoResM(minute.replace(method="delores_m", **{f"{part}_weight": 0.0}))
    parts = model.loss(*views())
    assert sorted(parts) == sorted({"total", "instance", "decorrelation"} - {part})
    parts["total"].backward()
    idle = model.student.instance_head if part == "instance" else model.projectors
    assert all(weight.grad is None for weight in idle.parameters())
