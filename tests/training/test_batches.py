"""The order of the data: every step sees the same signals, whoever asks and however often the run was interrupted."""

from __future__ import annotations

import pytest
import torch

from ddmi.base.errors import UserError
from ddmi.training.batches import Batches, load


class Numbers:
    """A source of `count` items whose batches say what was asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def epoch(self, generator):
        return torch.randperm(self.count, generator=generator).tolist()

    def batch(self, indices, choice, seeds):
        return {
            "indices": list(indices),
            "seeds": list(seeds),
            "choice": int(torch.randint(1 << 30, (), generator=choice)),
        }


def batches(count=10, batch_size=4, accumulation=1, rank=0, processes=1, seed=7, stage="autoencoder"):
    return Batches(Numbers(count), stage, seed, batch_size, accumulation, rank, processes)


def flat(item, key):
    return [value for micro in item for value in micro[key]]


def test_every_item_comes_once_an_epoch_across_step_boundaries():
    source = batches(count=10, batch_size=4)
    seen = [i for step in range(10) for i in flat(source[step], "indices")]  # 40 draws: 4 epochs
    for epoch in range(4):
        assert sorted(seen[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert seen[:10] != seen[10:20]


def test_a_step_is_the_same_whatever_was_asked_before():
    walked = batches()
    for step in range(23):
        last = walked[step]
    assert batches()[22] == last
    assert walked[3] == batches()[3]


def test_seeds_differ_between_all_positions_stages_and_runs():
    seeds = [s for step in range(50) for s in flat(batches()[step], "seeds")]
    assert len(set(seeds)) == len(seeds)
    assert flat(batches(stage="diffusion")[0], "seeds") != seeds[:4] != flat(batches(seed=8)[0], "seeds")


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_see_what_one_would(processes):
    alone = batches(batch_size=8)
    parts = [batches(batch_size=8, rank=rank, processes=processes) for rank in range(processes)]
    for step in range(5):
        for key in ("indices", "seeds"):
            assert [v for part in parts for v in flat(part[step], key)] == flat(alone[step], key)
        assert {part[step][0]["choice"] for part in parts} == {alone[step][0]["choice"]}


def test_accumulation_cuts_the_batch_and_shares_its_choice():
    whole, cut = batches(batch_size=8)[2], batches(batch_size=8, accumulation=4)[2]
    assert len(whole) == 1 and [len(micro["indices"]) for micro in cut] == [2, 2, 2, 2]
    assert flat(cut, "indices") == flat(whole, "indices") and flat(cut, "seeds") == flat(whole, "seeds")
    assert {micro["choice"] for micro in cut} == {whole[0]["choice"]}


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(UserError, match=r"training.batch_size 6 must be a multiple of accumulation 2 x processes 2"):
        batches(batch_size=6, accumulation=2, processes=2)


def test_a_batch_larger_than_an_epoch_goes_on_into_the_next():
    assert sorted(flat(batches(count=2, batch_size=6)[0], "indices")) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_steps_asked_for_in_order(workers):
    source = batches()
    assert list(load(source, 3, 9, workers)) == [batches()[step] for step in range(3, 9)]
