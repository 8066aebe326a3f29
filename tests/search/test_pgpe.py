from functools import partial

import numpy as np
import pytest
import torch
from helpers import noise_of

from torch_es.errors import NonFiniteError
from torch_es.search import PGPE


def test_a_step_of_pgpe_by_hand():
    returns = np.array([[3.0, 1.0], [-1.0, 0.0]])  # means 2 and -0.5, of all 0.75
    strategy = PGPE(
        torch.zeros(3),
        num_pairs=2,
        sigma=0.5,
        sigma_lr=0.01,
        shaping="identity",
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )
    a, b = noise_of(strategy)
    strategy.tell(returns)
    theta = 0.1 * (2 * a - 1 * b) / (2 * 2) * 0.5
    sigma = 0.5 + 0.01 * 0.5 / 2 * (1.25 * (a**2 - 1) - 1.25 * (b**2 - 1))
    np.testing.assert_allclose(strategy.theta, theta, rtol=1e-5)
    np.testing.assert_allclose(strategy.sigma, sigma, rtol=1e-5)
    assert np.abs(sigma - 0.5).min() > 1e-4  # it moved


def test_steps_shrink_with_sigma_so_that_the_sphere_is_solved():
    # the plain gradient, which grows as sigma shrinks, stalls at 1e-2 here; evotorch 0.6.1 needs 16,000 evaluations
    start = torch.ones(50)
    strategy = PGPE(start, partial(torch.optim.Adam, lr=0.03), sigma=0.3, num_pairs=50)
    for _ in range(200):
        strategy.tell([-float((w**2).sum()) for w in strategy.ask()])
    assert float((strategy.theta**2).sum()) < 1e-4


def test_a_sigma_falls_and_rises_by_a_fifth_at_most():
    es = PGPE(torch.zeros(50), num_pairs=2, sigma=0.5, sigma_lr=100.0, shaping="identity")
    es.tell(np.array([[3.0, 1.0], [-1.0, 0.0]]))
    np.testing.assert_allclose([float(es.sigma.min()), float(es.sigma.max())], [0.4, 0.6], rtol=1e-6)


def test_coefficients_of_squares_beyond_float32_are_refused():
    es = PGPE(torch.zeros(3), num_pairs=2, shaping="identity")
    with pytest.raises(NonFiniteError, match="The gradient is not finite"):
        es.tell([1e39, 1e39, 0.0, 0.0])  # no difference within a pair
