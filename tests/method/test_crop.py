"""Random resize crop against PyTorch's own bicubic resize."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slicer_lite.method.crop import RandomResizeCrop


@given(seed=st.integers(0, 10_000))
def test_any_box_is_what_interpolate_gives(seed):
    torch.manual_seed(seed)
    crop = RandomResizeCrop()
    x = torch.randn(3, 1, 64, 96)
    boxes = crop.boxes(3)
    canvas = torch.zeros(3, 1, 64, 144)
    canvas[..., 24:120] = x
    for ours, picture, (top, left, height, width) in zip(
        crop.apply(x, boxes), canvas, boxes.tolist(), strict=True
    ):
        cut = picture[None, :, top : top + height, left : left + width]
        plain = torch.nn.functional.interpolate(cut, (64, 96), mode="bicubic", align_corners=True)
        torch.testing.assert_close(ours, plain[0], rtol=0, atol=1e-4)


def test_the_box_of_the_input_itself_changes_nothing():
    x = torch.randn(2, 1, 64, 96)
    box = torch.tensor([[0, 24, 64, 96]] * 2)
    torch.testing.assert_close(RandomResizeCrop().apply(x, box), x)


def test_a_canvas_smaller_than_the_input_is_refused():
    with pytest.raises(ValueError, match=r"largest = 0.8"):
        RandomResizeCrop(0.6, 0.8)


def test_boxes_lie_on_the_canvas_and_cover_the_stated_range():
    top, left, height, width = RandomResizeCrop().boxes(20_000, torch.Generator().manual_seed(0)).unbind(1)
    assert top.min() == 0
    assert left.min() == 0
    assert (top + height).max() == 64
    assert (left + width).max() == 144
    assert (height.min(), height.max()) == (38, 64)  # 0.6 x 64, truncated; clipped to the canvas
    assert (width.min(), width.max()) == (57, 143)  # 0.6 x 96 and just under 1.5 x 96
    # U(0.6, 1.5) reaches 1 in 5 of 9 draws: frequency is left alone in more than half.
    assert (height == 64).float().mean().item() == pytest.approx(5 / 9, abs=0.02)


def test_same_generator_same_boxes():
    crop = RandomResizeCrop()
    one, two = (crop.boxes(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)


def test_wrong_size_is_refused():
    with pytest.raises(ValueError, match="64 x 96"):
        RandomResizeCrop()(torch.randn(1, 1, 64, 95))
