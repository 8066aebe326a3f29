"""One contract over every evaluator and any number of workers, each started once."""

from functools import partial
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from helpers import by_task, env, env_policy, evaluator, pairs, snapshot
from torch import nn

from torch_es import ES
from torch_es.envs import EpisodeRules
from torch_es.search.noise import num_blocks
from torch_es.search.perturbation import chunks, serial_sum

EVALUATORS = {"serial": 0, "one worker": 1, "two workers": 2, "three workers": 3}
POLICY = env_policy("InvertedPendulum-v5", hidden=(200, 200))  # two blocks of noise
FACTORY = env("InvertedPendulum-v5")


@pytest.fixture(scope="module")
def expected():
    running = evaluator(POLICY, FACTORY, 0)
    yield by_task(running.evaluate(snapshot(POLICY), pairs(6)))
    running.close()


@pytest.fixture(scope="module", params=EVALUATORS)
def running(request):
    others = set(active_children())  # of a trainer that another test has not closed
    started = evaluator(POLICY, FACTORY, EVALUATORS[request.param])
    assert len(set(active_children()) - others) == EVALUATORS[request.param]
    yield started
    assert started.metrics == {}
    started.close()
    started.close()
    assert set(active_children()) <= others


def test_results_have_the_serial_bits(running, expected):
    assert len(expected) == 12
    assert by_task(running.evaluate(snapshot(POLICY), pairs(6))) == expected


def test_results_do_not_depend_on_the_order_of_tasks(running, expected):
    waiting = iter([(task,) for task in reversed(expected)])
    assert by_task(running.evaluate(snapshot(POLICY), lambda: next(waiting, None))) == expected


def test_another_generation_has_other_members(running, expected):
    second = by_task(running.evaluate(snapshot(POLICY, generation=1), pairs(6, generation=1)))
    assert len(second) == 12
    assert not set(second.values()) & set(expected.values())


@pytest.mark.parametrize("number", [3, 200], ids=["blocks", "blocks and chunks"])
def test_sums_have_the_serial_bits(running, number):
    noise = snapshot(POLICY).perturbation
    assert num_blocks(noise.dim) == 2
    assert (len(chunks(noise.dim, number)) > 1) == (number == 200)
    generator = np.random.default_rng(0)
    linear, squared = generator.normal(size=number), generator.normal(size=number)
    linear[0] = squared[2] = 0
    expected = serial_sum(noise, linear, squared)
    got = running.noise_sum(noise, linear, squared)
    assert torch.equal(got, expected)
    assert torch.equal(running.noise_sum(noise, linear), expected[:1])


@pytest.mark.parametrize(
    ("middle", "kind"), [(nn.Tanh, "shared"), (partial(nn.LayerNorm, 200), "factored")], ids=["chain", "any module"]
)
def test_noise_of_low_rank_has_the_serial_bits_too(middle, kind):
    thetas, returns = [], []
    for num_workers, num_lanes in ((0, None), (1, None), (2, 5), (3, 40)):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 300), nn.Tanh(), nn.Linear(300, 200), middle(), nn.Linear(200, 2))
        options = {"sigma": 0.1, "num_pairs": 65, "rank": 2, "num_workers": num_workers, "num_lanes": num_lanes}
        with ES(network, "CartPole-v1", rules=EpisodeRules(max_steps=60), **options) as es:
            start = es.strategy.theta
            es.learn(10**9, callback=lambda row: row["time/iterations"] < 2)
            assert es.lanes.kind == kind
            thetas.append(es.strategy.theta)
            returns.append([episode.return_ for episode in es.evaluate(3)])
    assert not thetas[0].equal(start)
    assert all(theta.equal(thetas[0]) for theta in thetas)
    assert all(found == returns[0] for found in returns)
