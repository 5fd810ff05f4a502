"""What clusters hold, on assignments small enough to count by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

import slicer_lite as sl
from slicer_lite.explore import clusters
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share.weights import Pretrained

ASSIGNMENT = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.7, 0.2, 0.1]], dtype=np.float32)


def test_usage_counts_first_choices_and_empty_clusters():
    assert clusters.usage(ASSIGNMENT).tolist() == [3, 1, 0]


@pytest.mark.parametrize(
    ("found", "purity", "nmi"),
    [
        ([0, 0, 1, 1], 1.0, 1.0),  # perfect
        ([1, 1, 0, 0], 1.0, 1.0),  # perfect under other names
        ([0, 0, 0, 0], 0.5, 0.0),  # all in one
        ([0, 1, 0, 1], 0.5, 0.0),  # unrelated
        ([0, 1, 2, 3], 1.0, 2 / 3),  # each clip alone: log 2 / ((log 4 + log 2) / 2)
        ([0, 0, 0, 1], 0.75, None),
    ],
)
def test_purity_and_nmi_have_their_exact_values(found, purity, nmi):
    labels = ["a", "a", "b", "b"]
    assert clusters.purity(found, labels) == purity
    if nmi is not None:
        assert clusters.nmi(found, labels) == pytest.approx(nmi, abs=1e-12)


@pytest.mark.parametrize("missing", ["", None, np.nan, pd.NA])
def test_clips_without_a_label_do_not_count(missing):
    labels = np.array(["a", missing, "b", missing], dtype=object)
    assert clusters.purity([0, 0, 1, 1], labels) == 1.0
    assert clusters.nmi([0, 0, 1, 1], labels) == pytest.approx(1.0)
    assert clusters.contents([0, 0, 1, 1], labels)["clips"].tolist() == [1, 1]


def test_no_labels_or_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="No clip has a label"):
        clusters.purity([0, 1], ["", ""])
    with pytest.raises(ValueError, match="must be"):
        clusters.nmi([0, 1], ["a"])


def test_contents_names_the_most_frequent_label():
    table = clusters.contents([7, 7, 7, 2, 2], ["x", "y", "x", "z", ""])
    assert table.index.tolist() == [7, 2]
    assert table["clips"].tolist() == [3, 1]
    assert table["label"].tolist() == ["x", "z"]
    assert table["share"].tolist() == [2 / 3, 1.0]


def test_typical_and_uncertain_are_the_ends_of_one_order():
    assert clusters.typical(ASSIGNMENT, 0, 3).tolist() == [0, 3, 1]
    assert clusters.uncertain(ASSIGNMENT, 0, 2).tolist() == [1, 3]
    assert clusters.typical(ASSIGNMENT, 1).tolist() == [2]
    with pytest.raises(ValueError, match="Cluster 2"):
        clusters.typical(ASSIGNMENT, 2)


def test_soft_assignments_are_the_cluster_heads():
    config = sl.preset("tiny", channels=4, dim=8, clusters=5)
    pretrained = Pretrained(SLICERNetwork(config).eval(), None, config, 0)
    embeddings = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    found = clusters.soft_assignments(pretrained, embeddings)
    assert found.shape == (6, 5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    by_hand = pretrained.network.cluster_head(torch.from_numpy(embeddings)).softmax(1).detach().numpy()
    np.testing.assert_allclose(found, by_hand, atol=1e-6)


def test_a_map_needs_more_clips_than_neighbours():
    with pytest.raises(ValueError, match="needs more than 15"):
        clusters.umap_map(np.zeros((15, 4), np.float32))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of numba and umap-learn, about themselves
def test_the_map_keeps_groups_apart_and_repeats():
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(2, 8), 30, axis=0)
    embeddings = (centres + 0.05 * rng.normal(size=centres.shape)).astype(np.float32)
    here = clusters.umap_map(embeddings, seed=1)
    assert here.shape == (60, 2)
    np.testing.assert_array_equal(here, clusters.umap_map(embeddings, seed=1))
    distance = np.linalg.norm(here[:, None] - here[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    own = np.arange(60) // 30
    assert (own[distance.argmin(1)] == own).all()  # each clip's neighbour on the map is of its group


def test_nearest_are_ordered_by_cosine():
    embeddings = np.array([[1, 0], [1, 1], [0, 2], [-1, 0]], dtype=np.float32)
    places, cosines = clusters.nearest(np.array([[3, 0], [0, 1]], dtype=np.float32), embeddings, 3)
    assert places.tolist() == [[0, 1, 2], [2, 1, 0]]
    np.testing.assert_allclose(cosines, [[1, 0.5**0.5, 0], [1, 0.5**0.5, 0]], atol=1e-6)


def test_embeddings_of_any_precision_and_of_no_other_size_have_clusters():
    config = sl.preset("tiny", channels=4, dim=8, clusters=3)
    model = Pretrained(SLICERNetwork(config).eval().requires_grad_(False), None, config, 0)
    embeddings = np.random.default_rng(0).random((5, 8))
    found = clusters.soft_assignments(model, embeddings)
    np.testing.assert_array_equal(found, clusters.soft_assignments(model, embeddings.astype(np.float32)))
    with pytest.raises(ValueError, match=r"must be \(N, 8\), got \(5, 7\)"):
        clusters.soft_assignments(model, embeddings[:, :7])


@pytest.mark.parametrize("count", [0, 6])
def test_as_many_neighbours_as_there_are(count):
    with pytest.raises(
        ValueError, match=f"count = {count}: it must be from 1 to the number of embeddings, 5"
    ):
        clusters.nearest(np.ones((1, 3)), np.ones((5, 3)), count)
