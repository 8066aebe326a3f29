from functools import partial

import numpy as np
import torch
from helpers import noise_of

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
