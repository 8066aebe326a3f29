"""A module that prepares itself does so once for new weights, whoever plays it."""

import numpy as np
import pytest
import torch
from helpers import Stepper, boxed, evaluator, pairs, snapshot
from torch import nn

from torch_es import ES
from torch_es.lanes import make_lanes
from torch_es.nn import Prepared, VirtualBatchNorm, collect_statistics, prepare
from torch_es.policies import Policy
from torch_es.search.parameters import FlatParameters


class Hyper(nn.Module):
    """Grows a linear layer from four numbers; the grown weight is a buffer, or a plain attribute."""

    def __init__(self, plain=False):
        super().__init__()
        self.genome = nn.Parameter(torch.tensor([0.1, -0.2, 0.3, 0.5]))
        self.plain, self.times = plain, 0
        if plain:
            self.weight = torch.zeros(1, 3)
        else:
            self.register_buffer("weight", torch.zeros(1, 3), persistent=False)

    def grown(self, genome):
        return torch.tanh(genome[:3] * genome[3])[None]

    def prepare(self, reference):
        self.times += 1
        self.reference = reference
        self.weight = self.grown(self.genome)

    def forward(self, x):
        return x @ self.weight.T


def test_it_is_found_by_its_method():
    assert isinstance(Hyper(), Prepared)
    assert not isinstance(nn.Linear(1, 1), Prepared)
    network = nn.Sequential(Hyper(), VirtualBatchNorm(1))
    prepare(network, torch.ones(4, 3))
    assert network[0].times == 1
    assert network[0].reference.shape == (4, 3)
    assert network[1].reference_size == 4
    prepare(network)
    assert network[0].reference is None
    assert network[1].reference_size == 0  # its statistics belonged to other weights


@pytest.mark.parametrize("plain", [False, True])
@torch.no_grad()
def test_lanes_run_what_was_grown(plain):
    network = Hyper(plain)
    lanes = make_lanes(network, 3, boxed(3))
    thetas = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    for lane, theta in enumerate(thetas):
        lanes.write(lane, theta)
    rows = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    for _ in range(2):
        answers = lanes.forward(rows, range(3))
        for answer, theta, row in zip(answers, thetas, rows, strict=True):
            np.testing.assert_allclose(answer, torch.from_numpy(row) @ network.grown(theta)[0], rtol=1e-5)


def test_what_was_trained_acts_as_it_was_evaluated():
    network = Hyper()
    x = torch.tensor([[0.2, 0.0, 1.0]])
    with ES(network, Stepper, num_pairs=2, num_workers=0, sigma=0.5) as es:
        es.learn(40)
        action, _ = es.predict(x[0].numpy())
    np.testing.assert_allclose(action, network(x).detach()[0].clip(-1, 1), rtol=1e-6)
    np.testing.assert_allclose(network.weight, network.grown(network.genome).detach())


def test_a_policy_prepares_again_when_weights_change_and_not_otherwise():
    network = Hyper()
    policy = Policy(network, Stepper.observation_space, Stepper.action_space)
    policy.act(np.ones(3))
    times = network.times
    policy.act(np.ones(3))
    assert network.times == times
    with torch.no_grad():
        network.genome.add_(1.0)
    action, _ = policy.act(np.ones(3))
    assert network.times == times + 1
    np.testing.assert_allclose(action, network.grown(network.genome).sum().detach().clip(-1, 1), rtol=1e-6)


def test_an_episode_prepares_once():
    network = Hyper(plain=True)
    counted = []
    network.prepare = lambda reference: counted.append(1)  # copies share the list
    policy = Policy(network, Stepper.observation_space, Stepper.action_space)
    running = evaluator(policy, Stepper, 0, 1)
    counted.clear()
    assert len(list(running.evaluate(snapshot(policy), pairs(2)))) == 4
    assert len(counted) == 4


def test_a_fitness_function_gets_a_prepared_module():
    seen = []

    def fitness(module):
        seen.append(torch.equal(module.weight, module.grown(module.genome)))
        return float(module.weight.sum())

    with ES(Hyper(), fitness_fn=fitness, num_pairs=3, num_workers=0) as es:
        es.learn(12)
    assert all(seen)
    assert len(seen) >= 12


def test_measuring_changes_nothing_but_the_statistics():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls = self.calls + 1
            return x

    network = nn.Sequential(Counts(), VirtualBatchNorm(3))
    collect_statistics(network, torch.randn(5, 3))
    assert network[0].calls == 0
    assert FlatParameters(network).dim == 6


def test_the_outer_is_prepared_before_the_inner():
    order = []

    class Part(nn.Module):
        def __init__(self, name, *inner):
            super().__init__()
            self.name, self.inner = name, nn.ModuleList(inner)

        def prepare(self, reference):
            order.append(self.name)

    prepare(Part("outer", Part("inner")))
    assert order == ["outer", "inner"]
