"""From inputs to two views."""

import pytest
import torch

import slicer_lite as sl
from slicer_lite.method.views import TwoViews


@pytest.fixture
def plain():
    """Views that are neither mixed nor cropped."""
    return TwoViews(sl.preset("tiny", mixing="none", crop_min=1.0, crop_max=1.0), 0.0, 1.0)


def test_both_views_are_of_the_same_window(plain):
    lms = torch.randn(3, 1, 64, 96)
    for view in plain(lms, seed=0, step=0):
        torch.testing.assert_close(view, lms)


def test_view_2_may_be_of_another_window(plain):
    first, second = torch.randn(2, 3, 1, 64, 96).unbind(0)
    view1, view2 = plain(first, 0, 0, second)
    torch.testing.assert_close(view1, first)
    torch.testing.assert_close(view2, second)


def test_first_windows_enter_the_memory():
    views = TwoViews(sl.preset("tiny", mixing="mixup", mix_memory=4), 0.0, 1.0)
    first, second = torch.randn(2, 3, 1, 64, 96).unbind(0)
    views(first, 0, 0, second)
    assert views.mixer is not None
    torch.testing.assert_close(views.mixer.memory[:3].flatten(), first.flatten(), rtol=0, atol=0.01)
