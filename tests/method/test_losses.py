"""The losses against closed forms, and against loops written for reading."""

import math
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

from slicer_lite.method import fast, losses
from slicer_lite.method.losses import cluster_contrast, info_nce, negative_entropy

sizes = st.integers(1, 17)


@given(batch=sizes, queue=sizes, temperature=st.floats(0.05, 2))
def test_info_nce_of_indistinguishable_keys_is_log_of_their_number(batch, queue, temperature):
    one = torch.ones(1, 1)
    loss = info_nce(one.expand(batch, 1), one.expand(batch, 1), one.expand(queue, 1), temperature)
    assert loss.item() == pytest.approx(math.log(queue + 1), abs=1e-5)


@given(batch=sizes, queue=sizes, seed=st.integers(0, 1000))
def test_info_nce_is_its_formula(batch, queue, seed):
    torch.manual_seed(seed)
    q, k, n = (normalize(torch.randn(size, 5, dtype=torch.float64), dim=1) for size in (batch, batch, queue))
    mask = torch.rand(batch, queue) < 0.3
    total = 0.0
    for i in range(batch):
        positive = math.exp(q[i] @ k[i] / 0.2)
        negatives = sum(math.exp(q[i] @ n[j] / 0.2) for j in range(queue) if not mask[i, j])
        total -= math.log(positive / (positive + negatives))
    assert info_nce(q, k, n, 0.2, mask).item() == pytest.approx(total / batch, abs=1e-9)


@given(batch=sizes, queue=sizes, part=sizes, temperature=st.floats(0.01, 2), seed=st.integers(0, 1000))
def test_info_nce_and_its_gradient_are_the_cross_entropys_of_all_similarities(
    batch, queue, part, temperature, seed
):
    torch.manual_seed(seed)
    q, k, n = (normalize(torch.randn(size, 5, dtype=torch.float64), dim=1) for size in (batch, batch, queue))
    mask = torch.rand(batch, queue) < 0.3
    plain, ours = q.clone().requires_grad_(), q.clone().requires_grad_()
    negative = (plain @ n.T / temperature).masked_fill(mask, -math.inf)
    logits = torch.cat([(plain * k).sum(1, keepdim=True) / temperature, negative], dim=1)
    expected = cross_entropy(logits, torch.zeros(batch, dtype=torch.long))
    with mock.patch.object(fast, "_PART", part):
        found = info_nce(ours, k, n, temperature, mask)
    (3 * expected).backward()
    (3 * found).backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.grad, plain.grad)


def test_info_nce_without_negatives_is_zero():
    q = normalize(torch.randn(4, 8), dim=1)
    assert info_nce(q, q, torch.zeros(6, 8), 0.07, mask=torch.ones(6, dtype=torch.bool)).item() == 0


def test_info_nce_has_gradients_where_all_is_masked():
    q = normalize(torch.randn(4, 8), dim=1).requires_grad_()
    info_nce(q, q.detach(), torch.zeros(6, 8), 0.07, mask=torch.ones(4, 6, dtype=torch.bool)).backward()
    assert torch.isfinite(q.grad).all()


def test_a_planted_false_negative_raises_the_loss():
    q = normalize(torch.randn(4, 8), dim=1)
    queue = normalize(torch.randn(16, 8), dim=1)
    planted = queue.clone()
    planted[3] = q[0]
    assert info_nce(q, q, planted, 0.07) > info_nce(q, q, queue, 0.07) + 0.1


@given(clips=st.integers(2, 17), clusters=st.integers(2, 17), seed=st.integers(0, 1000))
def test_cluster_contrast_is_its_formula(clips, clusters, seed):
    torch.manual_seed(seed)
    p, q = (torch.randn(clips, clusters, dtype=torch.float64).softmax(1) for _ in range(2))
    columns = [*p.T, *q.T]
    total = 0.0
    for i, column in enumerate(columns):
        similar = [
            float(column @ other / column.norm() / other.norm()) / 0.5 if j != i else -math.inf
            for j, other in enumerate(columns)
        ]
        positive = similar[(i + clusters) % (2 * clusters)]
        total += math.log(sum(math.exp(s) for s in similar)) - positive
    assert cluster_contrast(p, q, 0.5).item() == pytest.approx(total / (2 * clusters), abs=1e-9)


def test_cluster_contrast_of_128_clusters_moves_between_the_stated_bounds():
    # With temperature 1, cosines of non-negative columns lie in [0, 1]: METHOD says 4.55 to 5.54.
    clear = torch.eye(128)
    assert cluster_contrast(clear, clear, 1.0).item() == pytest.approx(math.log(math.e + 254) - 1, abs=1e-4)
    same = torch.full((128, 128), 1 / 128)
    assert cluster_contrast(same, same, 1.0).item() == pytest.approx(math.log(255), abs=1e-4)


def test_negative_entropy_of_even_and_of_collapsed_assignments():
    assert negative_entropy(torch.full((7, 5), 0.2)).item() == pytest.approx(0, abs=1e-6)
    collapsed = torch.zeros(7, 5)
    collapsed[:, 2] = 1
    assert negative_entropy(collapsed).item() == pytest.approx(math.log(5))


@pytest.mark.parametrize("loss", [info_nce, cluster_contrast])
def test_half_precision_of_the_networks_does_not_reach_the_losses(loss):
    x, y, z = (normalize(torch.rand(16, 8), dim=1) for _ in range(3))
    arguments = (x, y, z, 0.01) if loss is info_nce else (x, y, 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            loss(*arguments), loss(*(a.double() if torch.is_tensor(a) else a for a in arguments)).float()
        )


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single_and_all_arguments_have_names(half):
    q, k, n = (normalize(torch.randn(size, 8), dim=1).to(half) for size in (4, 4, 16))
    loss = info_nce(query=q, key=k, queue=n, temperature=0.05)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, info_nce(q.float(), k.float(), n.float(), 0.05))
    p = torch.rand(6, 3).softmax(1).to(half)
    assert losses.cluster_contrast(p=p, q=p, temperature=1.0).dtype == torch.float32
    assert losses.decorrelation(x=q, y=k).dtype == torch.float32


def test_the_entropy_of_assignments_in_half_precision_is_computed_in_single():
    p = torch.softmax(torch.randn(64, 32, generator=torch.Generator().manual_seed(0)) / 4, dim=1).bfloat16()
    assert negative_entropy(p).item() == pytest.approx(negative_entropy(p.float()).item(), rel=1e-5)


def test_the_entropys_gradient_is_finite_where_a_cluster_is_empty_and_as_it_was_elsewhere():
    p = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]], requires_grad=True)
    negative_entropy(p).backward()
    mean = p.detach().mean(0)
    assert p.grad.isfinite().all()
    torch.testing.assert_close(p.grad[:, :2], ((mean.log() + 1) / 2)[:2].expand(2, 2))


@pytest.mark.parametrize("gap", [80.0, 90.0, 100.0, 103.0, 104.0, 200.0, 1e4])
def test_a_cluster_that_no_clip_is_in_leaves_every_gradient_finite(gap):
    logits = torch.randn(6, 4)
    logits[:, 2] -= gap
    logits.requires_grad_()
    p = logits.softmax(1)
    loss = cluster_contrast(p, p.detach().roll(1, 0), 1.0) + negative_entropy(p)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
