from functools import partial

import numpy as np
import torch
from helpers import noise_of

from torch_es.search import ARS


def test_a_step_of_ars_by_hand():
    returns = np.array([[1.0, 3.0], [0.0, -9.0], [7.0, 5.0], [2.0, 1.0]])  # the best two are the third and the first
    strategy = ARS(torch.zeros(3), num_pairs=4, num_top=2, optimizer=partial(torch.optim.SGD, lr=0.1))
    first, _, third, _ = noise_of(strategy)
    strategy.tell(returns)
    deviation = np.sqrt(5)  # of 1, 3, 7 and 5, whose mean is 4
    theta = 0.1 * (-2 * first + 2 * third) / (2 * deviation)
    np.testing.assert_allclose(strategy.theta, theta, rtol=1e-5)


def test_directions_are_chosen_by_the_better_member():
    """By their means, it were the fourth and not the first."""
    returns = np.array([[1.0, 3.0], [0.0, -9.0], [7.0, 5.0], [2.5, 2.5]])
    es = ARS(torch.zeros(3), num_pairs=4, num_top=2, optimizer=partial(torch.optim.SGD, lr=0.1))
    first = (es.ask().member(0) / 0.03).clone()
    third = (es.ask().member(4) / 0.03).clone()
    es.tell(returns)
    np.testing.assert_allclose(es.theta, 0.1 * (-2 * first + 2 * third) / (2 * np.sqrt(5)), rtol=1e-4)
