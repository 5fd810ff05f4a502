"""Muon: matrices move by orthogonal steps, vectors as AdamW moves them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slicer_lite.training.muon import Muon, orthogonal


def stepped(weight, gradients, **settings):
    """What becomes of a weight: a copy of it after some steps."""
    weight = nn.Parameter(weight.clone())
    optimizer = Muon([weight], **{"lr": 0.01, "weight_decay": 0.1, **settings})
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@given(
    rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 1000), scale=st.floats(1e-6, 1e6)
)
def test_singular_values_become_about_one_and_directions_stay(rows, columns, seed, scale):
    draws = torch.Generator().manual_seed(seed)
    few = min(rows, columns)
    left, right = (
        torch.linalg.qr(torch.randn(n, few, generator=draws, dtype=torch.float64))[0] for n in (rows, columns)
    )
    values = torch.rand(few, generator=draws, dtype=torch.float64) * 0.9 + 0.1
    inside = left.T @ orthogonal(scale * (left * values) @ right.T) @ right
    assert ((inside.diag() > 0.65) & (inside.diag() < 1.25)).all()
    torch.testing.assert_close(inside, inside.diag().diag(), rtol=0, atol=1e-5)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9 has no Muon")
@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_a_matrix_moves_as_pytorch_moves_it(shape):
    start, *gradients = torch.randn(5, *shape)
    ours = stepped(start, gradients)
    weight = nn.Parameter(start.clone())
    theirs = torch.optim.Muon([weight], 0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        weight.grad = gradient.clone()
        theirs.step()
    # PyTorch rounds to bfloat16 on the way.
    assert (ours - weight).norm() < 0.02 * (ours - start).norm()


def test_a_step_is_as_large_as_adamw_s():
    start, gradient = torch.zeros(64, 128), torch.randn(64, 128)
    moved = stepped(start, [gradient], lr=1.0)
    assert 0.7 * 0.2 < moved.square().mean().sqrt() < 1.2 * 0.2  # root mean square


def test_where_there_is_no_gradient_only_the_decay_is_left():
    start = torch.randn(4, 6)
    torch.testing.assert_close(stepped(start, [torch.zeros(4, 6)]), start * (1 - 0.01 * 0.1))


def test_matrix_and_vector_in_one_optimiser_move_as_each_alone():
    starts = torch.randn(6, 4), torch.randn(5)
    gradients = [(torch.randn(6, 4), torch.randn(5)) for _ in range(3)]
    weights = [nn.Parameter(start.clone()) for start in starts]
    both = Muon(weights, 0.01, weight_decay=0.1)
    for pair in gradients:
        for weight, gradient in zip(weights, pair, strict=True):
            weight.grad = gradient.clone()
        both.step()
    for number, weight in enumerate(weights):
        alone = stepped(starts[number], [pair[number] for pair in gradients])
        torch.testing.assert_close(weight.detach(), alone)


def test_a_closure_gives_loss_and_gradient():
    weight = nn.Parameter(torch.randn(4, 6))
    start = weight.detach().clone()
    optimizer = Muon([weight], 0.01, weight_decay=0.1)

    def closure():
        loss = (weight**3).sum()
        loss.backward()
        return loss

    for _ in range(2):
        expected = (weight.detach() ** 3).sum()
        torch.testing.assert_close(optimizer.step(closure), expected)
    by_hand = nn.Parameter(start)
    optimizer = Muon([by_hand], 0.01, weight_decay=0.1)
    for _ in range(2):
        by_hand.grad = 3 * by_hand.detach() ** 2
        optimizer.step()
    torch.testing.assert_close(weight, by_hand)


def test_vectors_move_as_adamw_moves_them():
    start, *gradients = torch.randn(4, 16)
    weight = nn.Parameter(start.clone())
    adamw = torch.optim.AdamW([weight], 0.01, weight_decay=0.1)
    for gradient in gradients:
        weight.grad = gradient.clone()
        adamw.step()
    torch.testing.assert_close(stepped(start, gradients), weight.detach(), rtol=0, atol=0)


def test_a_convolution_moves_as_the_matrix_of_its_filters():
    start, *gradients = torch.randn(4, 6, 5, 3, 3)
    flat = stepped(start.flatten(1), [gradient.flatten(1) for gradient in gradients])
    layout = torch.channels_last
    for filters in (start, start.contiguous(memory_format=layout)):
        torch.testing.assert_close(stepped(filters, gradients).flatten(1), flat)


def test_the_size_of_a_gradient_does_not_matter():
    start, gradient = torch.randn(2, 8, 8)
    torch.testing.assert_close(
        stepped(start, [gradient]), stepped(start, [1000 * gradient]), rtol=0, atol=1e-5
    )


def test_weights_without_a_gradient_stay():
    weight = nn.Parameter(torch.ones(4, 4))
    Muon([weight], 0.1).step()
    assert (weight == 1).all()
