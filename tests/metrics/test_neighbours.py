"""Nearest neighbours against brute force; memorisation on sets where the answer is known."""

import pytest
import torch

from ddmi.base.errors import UserError
from ddmi.metrics.neighbours import memorised, nearest


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 4)])
def test_neighbours_are_those_of_brute_force(chunk, shape):
    queries, references = randn(13, *shape), randn(29, *shape, seed=1)
    distance = (queries.flatten(1)[:, None] - references.flatten(1)[None]).norm(dim=-1)
    expected, indices = distance.sort(dim=1)
    found = nearest(queries, references, k=4, chunk=chunk)
    torch.testing.assert_close(found.distances, expected[:, :4])
    assert torch.equal(found.indices, indices[:, :4])
    in_parts = nearest(queries, iter(references.split([20, 2, 7])), k=4, chunk=chunk)
    assert torch.equal(in_parts.indices, found.indices)
    torch.testing.assert_close(in_parts.distances, found.distances)


def test_a_copy_is_at_distance_zero_even_far_from_the_origin():
    references = 100 + 0.01 * randn(40, 500)
    found = nearest(references[[3, 17]], references, k=2)
    assert torch.equal(found.distances[:, 0], torch.zeros(2)) and found.indices[:, 0].tolist() == [3, 17]
    torch.testing.assert_close(found.distances[0, 1], (references[found.indices[0, 1]] - references[3]).norm())


def test_more_neighbours_than_a_chunk_and_than_references():
    queries, references = randn(3, 2), randn(5, 2, seed=1)
    found = nearest(queries, references, k=5, chunk=2)
    assert torch.equal(found.indices.sort(dim=1).values, torch.arange(5).expand(3, 5))
    with pytest.raises(UserError, match=r"allowed are 1\.\.5"):
        nearest(queries, [references[:2], references[2:]], k=6)


def test_memorisation_is_zero_for_copies_and_one_for_new_items():
    train, held_out, new = randn(500, 4), randn(400, 4, seed=1), randn(400, 4, seed=2)
    to_train = nearest(held_out, train).distances
    assert memorised(nearest(train[:50], train).distances, to_train)["ratio"] == 0
    assert memorised(nearest(new, train).distances, to_train)["ratio"] == pytest.approx(1, abs=0.1)
    assert memorised(nearest(3 * new, train).distances, to_train)["ratio"] > 2


def test_memorisation_is_a_ratio_of_medians():
    summary = memorised(torch.tensor([1.0, 2.0, 30.0]), torch.tensor([[4.0, 9.0], [8.0, 9.0]]))
    assert (summary["sample_median"], summary["held_out_median"]) == (2.0, 6.0)
    assert summary["ratio"] == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="at least one"):
        memorised(torch.zeros(0), torch.ones(2))
