"""The shapes in types are executed in the tests, and nothing needs them elsewhere."""

import subprocess
import sys

import jaxtyping
import pytest
import torch

import slicer_lite as sl
from slicer_lite.method.losses import cluster_contrast, info_nce


@pytest.mark.parametrize(
    "call",
    [
        lambda: info_nce(torch.ones(2, 3), torch.ones(2, 3), torch.ones(5, 4), 0.1),
        lambda: cluster_contrast(torch.ones(4, 3), torch.ones(4, 2), 1.0),
        lambda: sl.kmix.mix(torch.ones(2, 3), torch.ones(2, 3), torch.ones(3)),
        lambda: sl.KMix(torch.eye(3, 64)).candidates(torch.ones(2, 64, dtype=torch.long)),
        lambda: sl.RandomResizeCrop()(torch.ones(2, 64, 96)),
        lambda: sl.LogMel()(torch.ones(16_000)),
        lambda: sl.Encoder(channels=2, dim=4)(torch.ones(2, 64, 96)),
    ],
)
def test_another_shape_is_noticed(call):
    with pytest.raises(jaxtyping.TypeCheckError):
        call()


def test_a_result_of_another_shape_is_noticed(monkeypatch):
    encoder = sl.Encoder(channels=2, dim=4)
    encoder.dim = 5
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        encoder(torch.ones(2, 1, 64, 96))


def test_without_jaxtyping_all_is_there():
    code = (
        "import sys; sys.modules.update(jaxtyping=None, beartype=None)\n"
        "import torch\n"
        "from slicer_lite.method import crop, encoder, kmix, logmel, losses, registry, views\n"
        "assert encoder.Encoder(channels=2, dim=4)(torch.ones(2, 1, 64, 96)).shape == (2, 12, 4)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
