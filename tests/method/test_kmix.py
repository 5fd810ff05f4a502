"""k-mix: candidates, recency, mixing, memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slicer_lite.method.kmix import KMix, fit_centroids, mix, single_centroid


def inputs(time_means):
    """Log-mels `(N, 1, F, 3)` whose time averages are the rows given."""
    return torch.as_tensor(time_means).float()[:, None, :, None].expand(-1, 1, -1, 3)


def axes(*clusters):
    """Inputs that belong to the clusters given, of three centroids along the axes."""
    return inputs(torch.eye(3)[list(clusters)])


def three_clusters(memory=8, **options):
    return KMix(torch.eye(3), memory=memory, frames=3, **options)


@given(seed=st.integers(0, 1000), k=st.integers(2, 6), pushed=st.integers(0, 30), top_k=st.integers(1, 9))
def test_partners_agree_with_a_plain_search(seed, k, pushed, top_k):
    torch.manual_seed(seed)
    mixer = KMix(torch.randn(k, 5), memory=12, top_k=top_k, frames=3)
    history = torch.randn(pushed, 5)
    for some in history.split(5):
        mixer.push(inputs(some))
    if not pushed:
        return
    queries = torch.randn(7, 5)
    kept = list(range(max(0, pushed - 12), pushed))  # insertion numbers in the memory
    cluster_of = {number: int(mixer.assign(history[number : number + 1])) for number in kept}
    distance = torch.cdist(mixer.centroids, mixer.centroids)
    allowed = []
    for query in queries:
        own = int(mixer.assign(query[None]))
        there = set(cluster_of.values())
        far = max(there, key=lambda c: distance[own, c])
        members = [number for number in reversed(kept) if cluster_of[number] == far]
        allowed.append({number % 12 for number in members[:top_k]})
        everyone = {number % 12 for number in members}
        assert set(mixer.candidates(query[None])[0].nonzero().flatten().tolist()) == everyone
    drawn = torch.stack([mixer.partners(inputs(queries), torch.rand(7)) for _ in range(40)])
    for column, places in zip(drawn.T.tolist(), allowed, strict=True):
        assert set(column) <= places
        if len(places) <= 2:
            assert set(column) == places  # all are drawn: of two, one is missed 40 times once in 5e11


def test_partner_falls_back_to_the_next_farthest_cluster_that_has_members():
    centroids = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])
    mixer = KMix(centroids, memory=4, frames=3)
    mixer.push(inputs(centroids[[0, 1]]))
    assert mixer.partner_cluster().tolist() == [1, 0, 0]
    mixer.push(inputs(centroids[[2]]))
    assert mixer.partner_cluster().tolist() == [2, 2, 0]


def test_own_cluster_serves_when_it_is_the_only_one():
    mixer = three_clusters()
    mixer.push(axes(1, 1))
    assert mixer.candidates(torch.eye(3)[[1]]).nonzero().tolist() == [[0, 0], [0, 1]]


def test_empty_memory_passes_inputs_unmixed():
    x = torch.randn(5, 1, 3, 3)
    assert torch.equal(three_clusters()(x), x)


def test_memory_is_first_in_first_out_and_reading_does_not_change_it():
    mixer = three_clusters(memory=4)
    x = torch.randn(6, 1, 3, 3)
    mixer.push(x[:3])
    mixer.push(x[3:])
    assert torch.equal(mixer.memory, x[[4, 5, 2, 3], 0])
    before = {k: v.clone() for k, v in mixer.state_dict().items()}
    mixer(x)
    assert all(torch.equal(v, before[k]) for k, v in mixer.state_dict().items())


def test_batch_larger_than_the_memory_keeps_its_last():
    mixer = three_clusters(memory=4)
    x = torch.randn(11, 1, 3, 3)
    mixer.push(x)
    mixer.push(x[:1])
    assert {int(i) for i in mixer.pushed[None]} == {12}
    kept = torch.cat([x[8:], x[:1]])[:, 0]
    assert sorted(mixer.memory.flatten(1).tolist()) == sorted(kept.flatten(1).tolist())


def test_single_centroid_is_plain_mixup():
    mixer = KMix(single_centroid(3), memory=6, top_k=6, frames=3)
    mixer.push(axes(0, 1, 2, 0))
    assert mixer.candidates(torch.randn(2, 3)).tolist() == [[True] * 4 + [False] * 2] * 2


@given(a=st.floats(0, 1), scale=st.sampled_from([1.0, 5.0]), seed=st.integers(0, 100))
def test_mix_is_its_formula(a, scale, seed):
    torch.manual_seed(seed)
    x, z = torch.randn(2, 1, 4, 5, dtype=torch.float64), torch.randn(2, 1, 4, 5, dtype=torch.float64)
    weight = torch.tensor([a, a / 2], dtype=torch.float64)
    w = weight[:, None, None, None]
    expected = torch.log((1 - w) * torch.exp(scale * x) + w * torch.exp(scale * z)) / scale
    torch.testing.assert_close(mix(x, z, weight, scale), expected)


def test_mixing_before_standardising_mixes_power():
    power_x, power_z = torch.rand(2, 1, 4, 5) + 0.1, torch.rand(2, 1, 4, 5) + 0.1
    mean, deviation = -3.0, 4.0
    a = torch.tensor([0.3, 0.1])
    x, z = ((p.log() - mean) / deviation for p in (power_x, power_z))
    mixed = mix(x, z, a, scale=deviation) * deviation + mean
    w = a[:, None, None, None]
    torch.testing.assert_close(mixed.exp(), (1 - w) * power_x + w * power_z)


def test_centroids_of_separate_bundles_are_their_directions():
    torch.manual_seed(0)
    directions = torch.eye(4)
    points = (directions.repeat(25, 1) + 0.05 * torch.randn(100, 4)) * torch.rand(100, 1).add(0.5)
    best = max(
        (fit_centroids(points, 4, seed=s) for s in range(5)), key=lambda c: (points @ c.T).amax(1).sum()
    )
    assert (best @ directions.T).amax(0).min() > 0.99
    torch.testing.assert_close(best.norm(dim=1), torch.ones(4))


def test_centroids_are_a_function_of_the_seed():
    points = torch.randn(50, 6)
    assert torch.equal(fit_centroids(points, seed=1), fit_centroids(points, seed=1))
    assert not torch.equal(fit_centroids(points, seed=1), fit_centroids(points, seed=2))


def test_too_few_or_broken_points_are_refused():
    with pytest.raises(ValueError, match="at least 4 vectors"):
        fit_centroids(torch.randn(3, 6), 4)
    with pytest.raises(ValueError, match="not finite"):
        fit_centroids(torch.full((5, 6), float("nan")), 4)


def test_one_share_for_all_may_be_a_plain_number():
    x, z = torch.randn(2, 3, 1, 4, 5)
    assert torch.equal(mix(x, z, 0.3), mix(x, z, torch.full((3,), 0.3)))


def test_partners_are_those_of_the_centroids_that_were_loaded():
    loaded, other = KMix(torch.randn(5, 3), memory=4, frames=3), KMix(torch.randn(5, 3), memory=4, frames=3)
    assert not torch.equal(loaded.partner_order, other.partner_order)
    loaded.load_state_dict(other.state_dict())
    assert torch.equal(loaded.partner_order, other.partner_order)
    loaded.push(inputs(other.centroids[:4]))
    other.push(inputs(other.centroids[:4]))
    assert torch.equal(loaded.partner_cluster(), other.partner_cluster())
