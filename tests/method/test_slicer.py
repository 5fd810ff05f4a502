"""The step of the method: who moves whom, when, and with which gradients."""

import copy

import pytest
import torch
from torch import nn

from slicer_lite.method import moco, slicer
from slicer_lite.method.losses import info_nce
from slicer_lite.method.moco import NO_CLIP
from slicer_lite.method.slicer import SLICER


def views(count=8):
    return torch.randn(count, 1, 64, 96), torch.randn(count, 1, 64, 96)


@pytest.fixture
def model(minute):
    return SLICER(minute)


def test_twenty_steps_lower_the_loss(minute):
    # Without negatives that come and go: the queue's growth alone would raise the loss.
    model = SLICER(minute.replace(queue=16, dropout=0.0))
    optimizer = torch.optim.AdamW(model.student.parameters(), 1e-3)
    view1, view2 = views()
    losses = []
    for _ in range(21):
        total = model.loss(view1, view1 + 0.1 * view2, torch.arange(8))["total"]
        losses.append(total.item())
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[1] - 0.1  # losses[0] was taken with an empty queue


def test_backward_works_though_the_queue_has_changed(minute):
    model = SLICER(minute)
    for _ in range(3):
        model.loss(*views())["total"].backward()


def test_gradients_reach_the_student_only(model):
    model.loss(*views())["total"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    missing = [name for name, p in model.student.named_parameters() if p.grad is None]
    assert not missing


@pytest.mark.parametrize("queue", [1, 15, 16, 17, 33, 64])
def test_queue_sizes_that_the_batch_does_not_divide(minute, queue):
    model = SLICER(minute.replace(queue=queue))
    seen = []
    for step in range(5):
        first = 8 * step
        enqueued = []
        original = model._enqueue
        model._enqueue = lambda keys, clips, o=original, e=enqueued: (e.append((keys, clips)), o(keys, clips))
        model.loss(*views(), torch.arange(first, first + 8))
        model._enqueue = original
        seen += list(zip(enqueued[0][1].tolist(), enqueued[0][0], strict=True))
    last = seen[-queue:]
    kept = sorted(zip(model.queue_clip.tolist(), model.queue.tolist(), strict=True))
    expected = sorted((clip, key.tolist()) for clip, key in last)
    expected += [(NO_CLIP, [0.0] * model.queue.shape[1])] * (queue - len(last))
    assert kept == sorted(expected)


def test_both_directions_see_the_queue_as_it_was(minute):
    model = SLICER(minute.replace(dropout=0.0, teacher_momentum=1.0))
    model.loss(*views())  # something is in the queue
    before = model.queue[: int(model.queued)].clone()
    view1, view2 = views()
    parts, (s1, s2, t1, t2) = model.step(view1, view2)
    temperature = minute.temperature
    expected = info_nce(s1.key, t2.key, before, temperature) + info_nce(s2.key, t1.key, before, temperature)
    torch.testing.assert_close(parts["instance"], expected)
    assert int(model.queued) == len(before) + 16


def test_own_earlier_keys_are_masked(minute):
    view1, view2 = views()
    clips = torch.arange(8)
    masking = SLICER(minute.replace(dropout=0.0, teacher_momentum=1.0))
    blind = SLICER(minute.replace(dropout=0.0, teacher_momentum=1.0, mask_own_keys=False))
    blind.load_state_dict(masking.state_dict())
    for model in (masking, blind):
        model.loss(view1, view2, clips)
    # The same clips again: their own keys are in the queue, and only the masking model leaves them out.
    assert masking.loss(view1, view2, clips)["instance"] < blind.loss(view1, view2, clips)["instance"] - 0.01
    assert masking._masked(clips)[:, :16].sum() == 16  # two keys each
    assert not blind._masked(clips)[:, :16].any()


def test_total_is_the_weighted_sum_of_the_parts(minute):
    config = minute.replace(instance_weight=0.5, cluster_weight=2.0, entropy_weight=0.25)
    parts = SLICER(config).loss(*views())
    expected = 0.5 * parts["instance"] + 2 * (parts["cluster"] + 0.25 * parts["entropy"])
    torch.testing.assert_close(parts["total"], expected)


def test_one_sided_loss_has_one_direction(minute):
    model = SLICER(minute.replace(symmetric=False, dropout=0.0))
    model.loss(*views())
    before, filled = model.queue.clone(), model.queue_clip == NO_CLIP
    parts, (s1, s2, t1, t2) = model.step(*views())
    torch.testing.assert_close(
        parts["instance"], info_nce(s1.key, t2.key, before, model.config.temperature, filled)
    )
    assert s2 is t1 is None  # nothing needs them


def test_one_sided_steps_run_each_network_once(minute):
    model, calls = SLICER(minute.replace(symmetric=False)), []
    for name in ("student", "teacher"):
        getattr(model, name).register_forward_pre_hook(
            lambda _, given, name=name: calls.append((name, *given))
        )
    view1, view2 = views()
    model.step(view1, view2)
    assert [name for name, _ in calls] == ["student", "teacher"]
    assert calls[0][1] is view1 and calls[1][1] is view2


WEIGHTLESS = {
    "instance": ({"instance_weight": 0.0}, ["total", "cluster", "entropy"], "info_nce"),
    "cluster": ({"cluster_weight": 0.0}, ["total", "instance"], "cluster_contrast"),
    "entropy": ({"entropy_weight": 0.0}, ["total", "instance", "cluster"], "negative_entropy"),
}


@pytest.mark.parametrize("part", WEIGHTLESS)
def test_a_term_of_weight_0_is_not_computed(minute, monkeypatch, part):
    changes, parts, function = WEIGHTLESS[part]
    model = SLICER(minute.replace(**changes, dropout=0.0))
    whole = SLICER(minute.replace(dropout=0.0))
    whole.load_state_dict(model.state_dict())
    two = views()
    expected = whole.loss(*two)
    monkeypatch.setattr(moco if part == "instance" else slicer, function, lambda *_: torch.tensor(torch.nan))
    found = model.loss(*two)
    assert list(found) == parts
    for name in parts[1:]:
        assert torch.equal(found[name], expected[name])
    found["total"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.student.parameters())


def test_a_collapse_into_one_cluster_leaves_the_gradients_finite(minute):
    model = SLICER(minute)
    with torch.no_grad():
        model.student.cluster_head[2].bias[0] += 1000
    model.loss(*views())["total"].backward()
    assert all(p.grad.isfinite().all() for p in model.student.parameters())


@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
def test_negative_clip_ids_are_ids_like_others(minute, kind):
    view1, view2 = views()
    models = [SLICER(minute.replace(dropout=0.0, teacher_momentum=1.0)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ids = torch.arange(8)
    for clips in (ids, ids + 8, ids):
        ours, theirs = (
            model.loss(view1, view2, these.to(kind))["instance"]
            for model, these in zip(models, (clips - 8, clips + 8), strict=True)
        )
        assert torch.equal(ours, theirs)
    assert ours > 0
    assert int(models[0]._masked(moco.named(ids - 8)).sum()) == 8 * (4 + 16)  # own keys, and 16 empty places


class WithNorms(slicer.SLICERNetwork):
    """An instance head with a batch norm and a channel dropout of another kind than the encoder's."""

    def __init__(self, config, encoder=None):
        super().__init__(config, encoder)
        self.instance_head = nn.Sequential(
            nn.BatchNorm1d(config.dim), nn.AlphaDropout(0.5), nn.Linear(config.dim, config.projection_dim)
        )


class OfOnesOwn(SLICER):
    network = WithNorms


def test_every_batch_norm_of_a_head_is_averaged_and_no_dropout_is_left_in_the_teacher(minute):
    model = OfOnesOwn(minute.replace(teacher_momentum=0.5))
    student, teacher = (network.instance_head[0] for network in (model.student, model.teacher))
    view1, view2 = views()
    model.loss(view1, view2)
    before = teacher.running_mean.clone()
    model.loss(view1, view2)
    torch.testing.assert_close(teacher.running_mean, (before + student.running_mean) / 2)
    assert torch.equal(model.teacher(view1).key, model.teacher(view1).key)


def test_teacher_moves_once_a_step_and_before_its_keys_are_computed(minute):
    model = SLICER(minute.replace(teacher_momentum=0.9))
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    old = copy.deepcopy(model.teacher)
    view1, view2 = views()
    _, (_, _, t1, _) = model.step(view1, view2)
    pairs = zip(model.student.parameters(), old.parameters(), model.teacher.parameters(), strict=True)
    for student, before, after in pairs:
        torch.testing.assert_close(after, 0.9 * before + 0.1 * student)
    torch.testing.assert_close(model.teacher(view1).key, t1.key)


def test_teacher_is_deterministic_and_averages_running_statistics(minute):
    model = SLICER(minute.replace(teacher_momentum=0.5))
    view1, view2 = views()
    assert torch.equal(model.teacher(view1).key, model.teacher(view1).key)  # no dropout
    student = [m for m in model.student.modules() if isinstance(m, nn.BatchNorm2d)]
    teacher = [m for m in model.teacher.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in teacher]
    model.loss(view1, view2)
    for s, t, old in zip(student, teacher, before, strict=True):
        assert not torch.equal(s.running_mean, old)
        torch.testing.assert_close(t.running_mean, (old + s.running_mean) / 2)


def test_evaluation_changes_nothing(model):
    model.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.loss(*views(), torch.arange(8))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_an_instance_head_of_two_layers(minute):
    config = minute.replace(projection_layers=2)
    model = SLICER(config)
    hidden = model.student.instance_head[0](torch.ones(1, config.dim)).clamp(min=0)
    expected = torch.nn.functional.normalize(model.student.instance_head[2](hidden), dim=1)
    torch.testing.assert_close(model.student.key(torch.ones(1, config.dim)), expected)
    with pytest.raises(ValueError, match="must be 1 or 2"):
        minute.replace(projection_layers=3)
