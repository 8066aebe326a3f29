import numpy as np
import pytest
import torch

from torch_es.errors import NonFiniteError
from torch_es.search import OpenAIES
from torch_es.search.gradient import as_returns, serial_noise_sum, shaped_weights
from torch_es.search.noise import Noise
from torch_es.search.shaping import SHAPINGS, identity


def gradient_of(strategy, returns):
    """The gradient that `tell` follows, read off a step of plain SGD with lr 1."""
    before = strategy.centre.theta.clone()
    strategy.tell(returns)
    return strategy.centre.theta - before


def sgd(params):
    return torch.optim.SGD(params, lr=1.0)


def test_gradient_of_a_quadratic_is_the_analytic_one():
    # F(x) = -|x - s|^2 has gradient 2(s - theta) for any sigma. A component of the estimate is the mean of
    # eps * (eps . g) over n pairs, so its variance is (|g|^2 + g_i^2)/n; five of its standard deviations are allowed.
    theta, solution, n = torch.tensor([0.3, -0.2, 0.9, 0.0]), torch.tensor([0.5, 0.1, -0.3, 1.0]), 4000
    strategy = OpenAIES(theta, sgd, sigma=0.1, num_pairs=n, shaping="identity")
    estimate = gradient_of(strategy, [-((w - solution) ** 2).sum() for w in strategy.ask()])
    exact = 2 * (solution - theta)
    allowed = 5 * ((exact.norm() ** 2 + exact**2) / n).sqrt()
    assert ((estimate - exact).abs() < allowed).all()


def test_mirrored_equals_plain_on_the_concatenated_noise():
    rng = np.random.default_rng(0)
    returns, sigma = rng.normal(size=(6, 2)), 0.2
    strategy = OpenAIES(torch.zeros(5), sgd, sigma=sigma, num_pairs=6, shaping="identity")
    noise = np.empty((6, 5), np.float32)
    for pair in range(6):
        strategy.centre.noise.fill(noise[pair], 0, pair)
    everyone, all_returns = np.concatenate((noise, -noise)), np.concatenate((returns[:, 0], returns[:, 1]))
    plain = (all_returns[:, None] * everyone).sum(0) / (12 * sigma)
    np.testing.assert_allclose(gradient_of(strategy, returns).numpy(), plain, rtol=1e-4, atol=1e-6)


def test_both_sums_are_what_they_say():
    noise = Noise(3, 10)
    eps = np.empty((2, 10), np.float32)
    for pair in range(2):
        noise.fill(eps[pair], 4, pair)
    linear, squared = serial_noise_sum(noise)(4, np.array([2.0, -1.0]), np.array([0.5, 0.0]))
    np.testing.assert_allclose(linear, 2 * eps[0] - eps[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(squared, 0.5 * eps[0] ** 2, rtol=1e-5)


@pytest.mark.parametrize("name", SHAPINGS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_non_finite_return_is_never_best(name, bad):
    returns = np.array([[1.0, bad], [3.0, 2.0], [0.0, 5.0]])
    weights, kept = shaped_weights(returns, SHAPINGS[name], "drop")
    assert kept.tolist() == [False, True, True]
    assert (weights[0] == 0).all()
    np.testing.assert_array_equal(weights[1:], SHAPINGS[name](returns[1:]))


def test_all_non_finite_raises():
    with pytest.raises(NonFiniteError, match="1 of 1 pairs"):
        shaped_weights(np.array([[np.nan, 1.0]]), identity, "drop")


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 2)])
def test_returns_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"`returns` must have shape \(num_pairs, 2\)"):
        as_returns(np.zeros(shape))
