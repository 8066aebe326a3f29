import numpy as np
import torch
from helpers import noise_of

from torch_es.search import OpenAIES


def gradient_of(strategy, returns):
    """The gradient that `tell` follows, read off a step of plain SGD with lr 1."""
    before = strategy.theta.clone()
    strategy.tell(returns)
    return strategy.theta - before


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
    noise = noise_of(strategy)
    everyone, all_returns = np.concatenate((noise, -noise)), np.concatenate((returns[:, 0], returns[:, 1]))
    plain = (all_returns[:, None] * everyone).sum(0) / (12 * sigma)
    np.testing.assert_allclose(gradient_of(strategy, returns).numpy(), plain, rtol=1e-4, atol=1e-6)
