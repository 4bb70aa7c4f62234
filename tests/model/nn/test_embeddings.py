"""Sinusoids by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ddmi.model.nn.embeddings import ScaleEmbedding, TimeEmbedding, sinusoid


def test_frequencies_fall_from_one_to_one_in_ten_thousand():
    row = sinusoid(torch.tensor([3.0]), 6)[0]
    for i, frequency in enumerate([1.0, 0.01, 1e-4]):
        assert row[i].item() == pytest.approx(math.sin(3 * frequency), abs=1e-6)
        assert row[3 + i].item() == pytest.approx(math.cos(3 * frequency), abs=1e-6)


def test_sine_and_cosine_belong_together():
    rows = sinusoid(torch.linspace(0, 999, 50), 32)
    assert torch.allclose(rows[:, :16].square() + rows[:, 16:].square(), torch.ones(50, 16), atol=1e-5)


def test_times_are_told_apart_between_whole_ones_too():
    rows = sinusoid(torch.arange(0, 1000, 0.5), 32)
    distance = torch.cdist(rows, rows) + torch.eye(len(rows)) * 9
    assert float(distance.min()) > 0.1


def test_scales_are_told_apart():
    embed = ScaleEmbedding(1, 8)
    a, b = embed(torch.tensor([1.0])), embed(torch.tensor([0.5]))
    assert a.shape == (8,) and not torch.allclose(a, b, atol=1e-3)
    assert ScaleEmbedding(3, 8)(torch.ones(3)).shape == (8,)


def test_rows_of_times_do_not_mix():
    embed = TimeEmbedding(16, 8)
    together = embed(torch.tensor([3.0, 700.5]))
    assert torch.allclose(together[1:], embed(torch.tensor([700.5])), atol=1e-6)
