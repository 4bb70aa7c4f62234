"""The adaptive solver against the order conditions, closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ddmi.model.ode import ERROR, FIFTH, NODES, STAGES, rk45


def test_the_coefficients_satisfy_the_order_conditions():
    weights = np.array([*FIFTH])
    nodes = np.array(NODES)
    matrix = np.array([[*row, *[0.0] * (6 - len(row))] for row in STAGES])
    assert np.allclose(matrix.sum(axis=1), nodes)
    for power in range(5):  # quadrature of x^k is exact up to k = 4: fifth order
        assert weights @ nodes**power == pytest.approx(1 / (power + 1))
    assert weights @ matrix @ nodes == pytest.approx(1 / 6)
    assert weights @ matrix @ nodes**2 == pytest.approx(1 / 12)
    assert weights @ matrix @ matrix @ nodes == pytest.approx(1 / 24)
    assert weights @ matrix @ matrix @ matrix @ nodes == pytest.approx(1 / 120)
    fourth = np.array([*FIFTH, 0.0]) - np.array(ERROR)
    for power in range(4):
        assert fourth @ np.array([*NODES, 1.0]) ** power == pytest.approx(1 / (power + 1))


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def decay(x, t, rows):
    return -x


def test_exponential_decay():
    y, n = rk45(decay, double([1.0], [2.0]), 0.0, 3.0, 1e-9)
    assert torch.allclose(y, double([1.0], [2.0]) * math.exp(-3), atol=1e-8)
    assert n.shape == (2,) and ((n - 1) % 6 == 0).all()


def test_it_runs_backwards():
    y, _ = rk45(decay, double([1.0]), 3.0, -1.0, 1e-9)
    assert float(y) == pytest.approx(math.exp(4), rel=1e-7)


def test_a_polynomial_of_degree_four_is_exact():
    y, _ = rk45(lambda x, t, rows: 5 * t[:, None] ** 4, double([0.0]), 0.0, 2.0, 1e-2)
    assert float(y) == pytest.approx(32.0, rel=1e-12)


SYSTEMS = {
    "logistic": (lambda t, y: y * (1 - y) * (1 + np.sin(t)), [0.05]),
    "van der pol": (lambda t, y: np.array([y[1], 2 * (1 - y[0] ** 2) * y[1] - y[0]]), [1.5, 0.0]),
    "predator": (lambda t, y: np.array([1.5 * y[0] - y[0] * y[1], y[0] * y[1] - 2 * y[1]]), [2.0, 0.6]),
    "pendulum": (lambda t, y: np.array([y[1], -np.sin(y[0]) - 0.1 * y[1] + 0.5 * np.cos(t)]), [1.0, 0.3]),
}


def as_rows(system):
    def derivative(x, t, rows):
        parts = [system(float(time), state.numpy()) for time, state in zip(t, x, strict=True)]
        return torch.from_numpy(np.stack(parts))

    return derivative


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_agrees_with_scipy(name):
    from scipy.integrate import solve_ivp

    system, start = SYSTEMS[name]
    exact = solve_ivp(system, (0, 6), start, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    theirs = solve_ivp(system, (0, 6), start, method="RK45", rtol=1e-6, atol=1e-6)
    ours, n = rk45(as_rows(system), double(start), 0.0, 6.0, 1e-6)
    assert np.allclose(ours[0].numpy(), exact, atol=2e-4)
    assert np.abs(ours[0].numpy() - exact).max() < 10 * max(np.abs(theirs.y[:, -1] - exact).max(), 1e-6)
    assert 0.6 < int(n) / theirs.nfev < 1.6  # the same method at the same price


def test_a_smaller_tolerance_costs_more_and_gives_more():
    derivative = as_rows(SYSTEMS["van der pol"][0])
    exact, _ = rk45(derivative, double([1.5, 0.0]), 0.0, 6.0, 1e-12)
    found = [rk45(derivative, double([1.5, 0.0]), 0.0, 6.0, tolerance) for tolerance in (1e-3, 1e-5, 1e-7, 1e-9)]
    errors = [float((y - exact).abs().max()) for y, _ in found]
    costs = [int(n) for _, n in found]
    assert costs == sorted(costs) and len(set(costs)) == 4
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-6 < 10 * errors[0]
    # fifth order: error ~ tolerance, cost ~ tolerance^(-1/5)
    assert 100 ** (1 / 5) * 0.6 < costs[-1] / costs[-2] < 100 ** (1 / 5) * 1.4


def test_the_length_of_a_step_by_hand():
    """Of x' = 5 t^4 the embedded fourth-order rule is off by the same multiple of h^5 at every time, and of x' = 0 by
    nothing. The error is the root mean square over both, and h becomes 0.9 h error^(-1/5).
    """
    moments, tolerance, start, stop = [], 1e-9, 1.0, 3.0

    def derivative(x, t, rows):
        moments.append(float(t))
        return torch.cat([5 * t[:, None] ** 4, torch.zeros_like(x[:, :1])], dim=1)

    rk45(derivative, double([0.0, 7.0]), start, stop, tolerance)
    first = 0.01 * (stop - start)
    assert moments[6] == pytest.approx(start + first)  # at the end of the first step, which is accepted
    off = 5 * first**5 * sum(weight * node**4 for weight, node in zip(ERROR, [*NODES, 1.0], strict=True))
    new = (start + first) ** 5 - start**5  # larger than the state before, 0
    error = math.sqrt((off / (tolerance * (1 + new))) ** 2 / 2)
    second = first * 0.9 * error**-0.2
    assert error < 1 and 1.1 < second / first < 9
    assert 5 * (moments[7] - moments[6]) == pytest.approx(second, rel=1e-4)


def test_a_row_does_not_know_its_company():
    def derivative(x, t, rows):
        return -x * (1 + x.square()) + torch.sin(3 * t)[:, None]

    state = double([0.1, 0.2], [30.0, -50.0], [1.0, 2.0])  # the second one is stiff
    together, costs = rk45(derivative, state, 0.0, 2.0, 1e-6)
    for k in range(3):
        alone, cost = rk45(derivative, state[k : k + 1], 0.0, 2.0, 1e-6)
        torch.testing.assert_close(alone[0], together[k], atol=1e-9, rtol=0)  # rounding, which the stiff row amplifies
        assert int(cost) == int(costs[k])
    assert int(costs[1]) > int(costs[0])


def test_rows_are_named_to_the_derivative():
    rates = double(1.0, 2.0, 3.0)
    y, _ = rk45(lambda x, t, rows: -rates[rows][:, None] * x, double([1.0], [1.0], [1.0]), 0.0, 1.0, 1e-9)
    assert torch.allclose(y[:, 0], torch.exp(-rates), atol=1e-8)


def test_the_start_is_not_overwritten():
    state = double([1.0])
    rk45(decay, state, 0.0, 1.0, 1e-3)
    assert float(state) == 1.0


def test_what_does_not_end_is_an_error():
    with pytest.raises(ValueError, match="within 50 function evaluations"):
        rk45(lambda x, t, rows: torch.cos(1e4 * t)[:, None] * 1e4, double([0.0]), 0.0, 1.0, 1e-10, most=50)
    with pytest.raises(ValueError, match="did not reach the end"):
        rk45(lambda x, t, rows: x * torch.nan, double([1.0]), 0.0, 1.0, 1e-3)


def test_the_type_of_the_state_is_that_of_the_times():
    """In float32, and to the very end, which 0.1 and 0.7 do not divide."""
    seen = set()

    def derivative(x, t, rows):
        seen.add(t.dtype)
        return -x

    y, _ = rk45(derivative, torch.tensor([[1.0], [2.0]]), 0.1, 3.7, 1e-5)
    assert seen == {torch.float32} and y.dtype == torch.float32
    assert torch.allclose(y, torch.tensor([[1.0], [2.0]]) * math.exp(-3.6), atol=1e-5)
