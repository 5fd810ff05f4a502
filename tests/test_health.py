"""Each illness is provoked and recognised; the healthy are left in peace."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from slicer_lite import health


def test_clusters_all_alike_and_all_in_one():
    alike = torch.eye(8).repeat(4, 1)
    assert health.cluster_health(alike) == pytest.approx(
        {"clusters_used": 1, "cluster_entropy": 1, "confidence": 1}
    )
    collapsed = torch.zeros(32, 8)
    collapsed[:, 3] = 1
    assert health.cluster_health(collapsed)["clusters_used"] == 1 / 8
    assert health.cluster_health(collapsed)["cluster_entropy"] == pytest.approx(0)


@pytest.mark.parametrize("shape", [(200, 16), (16, 200)])
def test_rank_counts_the_dimensions_in_use(shape):
    q, _ = torch.linalg.qr(torch.randn(max(shape), min(shape)))
    orthogonal = q if shape[0] > shape[1] else q.T
    assert health.rank_me(orthogonal) == pytest.approx(16, rel=1e-3)
    line = torch.randn(shape[0], 1) @ torch.randn(1, shape[1])
    assert health.rank_me(line) == pytest.approx(1, abs=0.01)


def test_alignment_and_uniformity():
    x = normalize(torch.randn(64, 8), dim=1)
    assert health.alignment(x, x) == pytest.approx(0, abs=1e-6)
    assert health.alignment(x, -x) == pytest.approx(4, rel=1e-5)
    assert health.uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-5)
    assert health.uniformity(x) < -2


def test_drift_is_relative_distance():
    student, teacher = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    teacher.load_state_dict(student.state_dict())
    assert health.drift(student, teacher) == 0
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.zero_()
    assert health.drift(student, teacher) == pytest.approx(1)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"clusters_used": 0.02}, "Cluster collapse: only 2% of the clusters"),
        ({"rank": 2.0, "largest_rank": 256.0}, "Dimensional collapse: the embeddings fill about 2 of 256"),
        ({"drift": 3.0}, "The teacher has lost the student"),
    ],
)
def test_illness_is_said_in_words(numbers, said):
    (sentence,) = health.diagnose(numbers)
    assert sentence.startswith(said)


def test_health_is_silence():
    well = {"clusters_used": 0.9, "cluster_entropy": 0.98, "rank": 80.0, "largest_rank": 256.0, "drift": 0.1}
    assert health.diagnose(well) == []
    assert health.diagnose({"total": 3.0}) == []
    assert math.isfinite(health.rank_me(torch.zeros(4, 4)))
