"""The bits on nodes are those of one process, whichever network; what a node tells reaches the training process."""

import numpy as np
import pytest
import torch
from helpers import by_task, env, env_policy, pairs, snapshot
from machines import actors, wait_for
from torch import nn

from torch_es import ES
from torch_es.cluster import RayEvaluator
from torch_es.evaluators import SerialEvaluator
from torch_es.nn import ObservationNorm, VirtualBatchNorm
from torch_es.rollout import EnvObjective
from torch_es.search.perturbation import serial_sum

POLICY = env_policy("InvertedPendulum-v5", hidden=(200, 200))  # two blocks of noise


def recurrent():
    return nn.Sequential(ObservationNorm(4), nn.RNN(4, 6), nn.Linear(6, 2))


KINDS = {
    "observations normalised": (lambda: nn.Sequential(ObservationNorm(4), nn.Linear(4, 2)), {}),
    "virtual batch norm": (lambda: nn.Sequential(nn.Linear(4, 6), VirtualBatchNorm(6), nn.Tanh(), nn.Linear(6, 2)), {}),
    "action noise": (lambda: nn.Linear(4, 2), {"action_noise": "epsilon:0.1"}),
    "actions alone": (lambda: nn.Linear(4, 2), {"action_noise": "sample", "sigma": 0}),
}


def trained(kind, evaluator=None):
    network, options = KINDS[kind]
    torch.manual_seed(0)
    with ES(network(), "CartPole-v1", num_pairs=6, eval_every=2, num_workers=0, evaluator=evaluator, **options) as es:
        es.learn(10**9, callback=lambda row: row["time/iterations"] < 3)
        return es.strategy.theta.clone(), [episode.return_ for episode in es.evaluate(3)]


FAST = {(1, "actions alone"), (2, "observations normalised")}


@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        pytest.param(nodes, kind, marks=[] if (nodes, kind) in FAST else pytest.mark.slow)
        for nodes in (1, 2, 3)
        for kind in KINDS
    ],
)
def test_a_run_has_the_bits_of_one_process(machines, nodes, kind):
    machines.have(nodes)
    theta, returns = trained(kind, RayEvaluator())
    expected, expected_returns = trained(kind)
    assert torch.equal(theta, expected)
    assert returns == expected_returns
    wait_for(lambda: not actors())


def test_results_and_sums_are_those_of_one_process(machines):
    machines.have(2)
    objective = EnvObjective(POLICY, env("InvertedPendulum-v5"), 7, num_lanes=2)
    given = snapshot(POLICY)
    running = RayEvaluator()(objective, given)
    assert running.metrics["cluster/nodes"] == 2
    played = by_task(running.evaluate(given, pairs(6)))
    assert played == by_task(SerialEvaluator(objective).evaluate(given, pairs(6)))
    generator = np.random.default_rng(0)
    linear, squared = generator.normal(size=200), generator.normal(size=200)
    noise = given.perturbation
    assert torch.equal(running.noise_sum(noise, linear, squared), serial_sum(noise, linear, squared))
    assert running.metrics["cluster/workers"] == 4
    assert running.metrics["cluster/tasks_in_flight"] == 8  # four workers with two lanes each
    running.close()
