from functools import partial

import numpy as np
import torch
from helpers import noise_of

from torch_es.search import SNES


def test_a_step_of_snes_by_hand():
    returns = np.array([[3.0, 1.0], [-1.0, 0.0]])  # from the best: first +, first -, second -, second +
    strategy = SNES(torch.zeros(3), sigma=0.5, sigma_lr=0.01, num_pairs=2, optimizer=partial(torch.optim.SGD, lr=0.1))
    a, b = noise_of(strategy)
    strategy.tell(returns)
    raw = np.maximum(0, np.log(4 / 2 + 1) - np.log([1, 2, 3, 4]))
    best, second, third, worst = raw / raw.sum() - 1 / 4
    theta = 0.1 * 0.5 * ((best - second) * a + (worst - third) * b)
    sigma = 0.5 * np.exp(0.01 / 2 * ((best + second) * (a**2 - 1) + (worst + third) * (b**2 - 1)))
    np.testing.assert_allclose(strategy.theta, theta, rtol=1e-5)
    np.testing.assert_allclose(strategy.sigma, sigma, rtol=1e-5)
    assert np.abs(sigma - 0.5).min() > 1e-4  # it moved
