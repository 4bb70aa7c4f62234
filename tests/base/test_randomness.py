"""Random numbers know a seed and a name, and nothing else."""

from __future__ import annotations

import hashlib

import torch

from ddmi.base.randomness import derive, generator, normal, uniform


def test_a_seed_is_the_same_on_every_machine():
    expected = int.from_bytes(hashlib.sha256(b"(3, 'noise', 17)").digest()[:8], "big") >> 1
    assert derive(3, "noise", 17) == expected < 2**63


def test_keys_are_told_apart():
    seeds = [
        derive(1, 23),
        derive(12, 3),
        derive("1", 23),
        derive(123),
        derive("a", "b"),
        derive("ab"),
        derive("b", "a"),
    ]
    assert len(set(seeds)) == len(seeds)


def test_a_row_does_not_know_its_company():
    seeds = [5, 6, 7, 8]
    together = normal((3, 4), seeds, "noise")
    assert torch.equal(together[2:3], normal((3, 4), [7], "noise"))
    assert torch.equal(together.flip(0), normal((3, 4), seeds[::-1], "noise"))
    assert torch.equal(uniform(seeds, "time")[1:2], uniform([6], "time"))


def test_nor_what_was_drawn_before():
    first = normal((5,), [1], "a")
    torch.randn(100)
    normal((7,), [1], "b")
    assert torch.equal(normal((5,), [1], "a"), first)
    assert torch.equal(torch.rand(3, generator=generator(1)), torch.rand(3, generator=generator(1)))


def test_names_give_independent_noise():
    a, b = normal((20_000,), [1], "posterior")[0], normal((20_000,), [1], "noise")[0]
    assert abs(float((a * b).mean())) < 0.03


def test_the_distributions_are_what_they_say():
    draws = normal((50,), list(range(400)), "noise").flatten()  # 20,000 of them
    assert abs(float(draws.mean())) < 0.03 and abs(float(draws.std()) - 1) < 0.02
    shares = uniform(list(range(3000)), "time")
    assert 0 <= float(shares.min()) < float(shares.max()) < 1
    assert abs(float(shares.mean()) - 0.5) < 0.02 and abs(float(shares.var()) - 1 / 12) < 0.005
