"""Standard errors against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from ddmi.metrics.uncertainty import bootstrap, jackknife, mean_and_deviation, share_error


def test_mean_and_deviation():
    assert mean_and_deviation([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt(7)))
    assert mean_and_deviation([4.0]) == (4.0, None)


def test_the_error_of_a_share():
    assert share_error(0.5, 100) == pytest.approx(0.05) and share_error(1.0, 7) == 0


def test_the_jackknife_of_a_mean_is_its_standard_error():
    """With as many groups as items exactly; with ten groups about."""
    x = torch.randn(400, dtype=torch.float64)
    exact = float(x.std()) / 20
    assert jackknife(400, lambda kept: float(x[kept].mean()), groups=200) == pytest.approx(exact, rel=0.1)
    one_by_one = [float(torch.cat([x[:i], x[i + 1 :]]).mean()) for i in range(400)]
    spread = torch.tensor(one_by_one, dtype=torch.float64)
    assert math.sqrt(399 / 400 * float((spread - spread.mean()).square().sum())) == pytest.approx(exact)
    assert jackknife(19, lambda kept: 0.0) is None


def test_every_group_is_left_out_once():
    left = []
    jackknife(20, lambda kept: left.append(set(range(20)) - set(kept.tolist())) or 0.0)
    assert len(left) == 10 and set.union(*left) == set(range(20)) and sum(map(len, left)) == 20


def test_the_bootstrap_of_a_mean_is_its_standard_error():
    x = torch.randn(300)
    found = bootstrap([x, x], lambda a, b: float(a.mean()), repeats=1000)
    assert found == pytest.approx(float(x.std()) / math.sqrt(300), rel=0.1)
    assert bootstrap([x, x[:1]], lambda a, b: 0.0) is None
    assert bootstrap([x, x], lambda a, b: math.nan) is None
