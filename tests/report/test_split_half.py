from functools import partial

import numpy as np
import pytest
import torch

from torch_es.report.split_half import split_half_cosine, split_half_cosines
from torch_es.runs.options import describe
from torch_es.runs.replay_log import Record
from torch_es.search import STRATEGIES, Mirrored
from torch_es.search.perturbation import serial_sum
from torch_es.search.rule import spread
from torch_es.search.sfc64 import SFC64Noise

SGD = partial(torch.optim.SGD, lr=1e-3)


def mirrored(noise, generation):
    return Mirrored(noise.seed, generation, noise.dim, 1.0)


def linear_fitness(noise, generation, slope, pairs):
    """Returns of `f(w) = slope @ w` for the members of a generation around zero, sigma 1."""
    eps = torch.empty(pairs, noise.dim)
    noise.fill(eps, generation, range(pairs))
    up = eps.double().numpy() @ slope
    return np.stack((up, -up), axis=1)


def test_a_linear_function_has_the_cosine_that_theory_gives():
    """Half an estimate is `1/m * sum (g @ eps) eps`, so `E[a @ b] = |g|^2` and `E[|a|^2] = |g|^2 * (1 + (d + 1)/m)`."""
    dim, half = 50, 100
    noise, slope = SFC64Noise(3, dim), np.linspace(-1, 1, dim)
    found = [
        split_half_cosine(mirrored(noise, generation), 2 * linear_fitness(noise, generation, slope, 2 * half)[:, 0])
        for generation in range(60)
    ]
    deviation = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - half / (half + dim + 1)) < 4 * deviation + 0.01
    assert deviation < 0.01


def test_returns_of_chance_agree_in_nothing():
    noise, draws = SFC64Noise(0, 400), np.random.default_rng(0)
    found = [split_half_cosine(mirrored(noise, generation), draws.standard_normal(16)) for generation in range(60)]
    assert abs(np.mean(found)) < 4 / np.sqrt(400 * 60)
    assert 0.6 < np.std(found) * np.sqrt(400) < 1.4


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_plan_is_what_the_strategy_climbs_along(name):
    fitness = np.random.default_rng(1).standard_normal((8, 2))
    strategy = STRATEGIES[name](torch.zeros(30), SGD, sigma=0.1, num_pairs=8, seed=5)
    plan, kept = STRATEGIES[name](torch.zeros(1), num_pairs=8).plan(fitness)
    strategy.tell(fitness)
    along = serial_sum(Mirrored(5, 0, 30, 1.0), spread(plan.linear, kept))[0]
    moved = strategy.theta
    assert float(along @ moved / (along.norm() * moved.norm())) == pytest.approx(1, abs=1e-5)


def records(number, pairs=4):
    draws = np.random.default_rng(2)
    return [Record(i, {"fitness": draws.standard_normal((pairs, 2))}, b"", {}) for i in range(number)]


def test_generations_are_as_many_as_the_budget_allows_evenly_spaced():
    options = {"strategy": "openai_es", "seed": 0, "sigma": 0.1, "env": None}
    found = split_half_cosines(options, 10, records(101), budget=4 * 10 * 21)
    assert [generation for generation, _ in found] == list(range(0, 101, 5))
    assert len(split_half_cosines(options, 10, records(101), budget=1)) == 3
    assert len(split_half_cosines(options, 10, records(101), most=30)) == 30


def test_functions_that_the_log_names_are_left_out():
    options = {"strategy": "openai_es", "seed": 0, "sigma": 0.1}
    own = describe({"shaping": abs, "scheduler": partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)})
    assert split_half_cosines({**options, **own}, 10, records(3)) == split_half_cosines(options, 10, records(3))


def test_there_is_none_where_nothing_differs_or_actions_alone_are_searched():
    options = {"strategy": "openai_es", "seed": 0, "sigma": 0.1}
    still = [Record(0, {"fitness": np.zeros((4, 2))}, b"", {})]
    assert split_half_cosines(options, 10, still) == []
    assert split_half_cosines({**options, "sigma": 0}, 10, records(3)) == []
