"""The bits on nodes are those of one process, whichever network; what a node tells reaches the training process."""

import re
import time

import numpy as np
import pytest
import torch
from command import torch_es
from helpers import by_task, env, env_policy, pairs, snapshot
from machines import actors, wait_for
from torch import nn

from torch_es import ES, RecurrentNetwork
from torch_es.cluster import RayEvaluator, driver, messages
from torch_es.errors import WorkerError
from torch_es.evaluators import SerialEvaluator
from torch_es.nn import ObservationNorm, VirtualBatchNorm
from torch_es.rollout import EnvObjective
from torch_es.search.perturbation import serial_sum

POLICY = env_policy("InvertedPendulum-v5", hidden=(200, 200))  # two blocks of noise


KINDS = {
    "observations normalised": (lambda: nn.Sequential(ObservationNorm(4), nn.Linear(4, 2)), {}),
    "virtual batch norm": (lambda: nn.Sequential(nn.Linear(4, 6), VirtualBatchNorm(6), nn.Tanh(), nn.Linear(6, 2)), {}),
    "recurrent": (lambda: RecurrentNetwork(4, 2, hidden=6), {}),
    "action noise": (lambda: nn.Linear(4, 2), {"action_noise": "epsilon:0.1"}),
    "noise of low rank": (
        lambda: nn.Sequential(nn.Linear(4, 300), nn.Tanh(), nn.Linear(300, 200), nn.Linear(200, 2)),
        {"rank": 1},
    ),
    "actions alone": (lambda: nn.Linear(4, 2), {"action_noise": "sample", "sigma": 0}),
}


def trained(kind, evaluator=None):
    network, options = KINDS[kind]
    torch.manual_seed(0)
    workers = {"evaluator": evaluator} if evaluator else {"num_workers": 0}
    with ES(network(), "CartPole-v1", num_pairs=6, eval_every=2, **workers, **options) as es:
        es.learn(10**9, callback=lambda row: row["time/iterations"] < 3)
        return es.strategy.theta.clone(), [episode.return_ for episode in es.evaluate(3)]


FAST = {(1, "actions alone"), (2, "noise of low rank")}


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
    assert running.metrics["cluster/tasks_in_flight"] >= 8  # four workers with two lanes each
    running.close()


def test_the_time_in_which_ray_starts_does_not_count(machines, monkeypatch):
    machines.have(1)
    monkeypatch.setattr(driver, "join", lambda options: time.sleep(1.2))
    with ES(nn.Linear(4, 2), "CartPole-v1", evaluator=RayEvaluator(node_timeout=1.0)) as es:
        assert es.evaluator().metrics["cluster/nodes"] == 1


@pytest.mark.parametrize("answer", ["warn", "refuse"])
def test_a_processor_that_rounds_differently_is_told(machines, answer, monkeypatch, caplog):
    machines.have(1)
    monkeypatch.setattr(driver, "arithmetic", lambda: "another")  # this machine has one processor only
    objective = EnvObjective(POLICY, env("InvertedPendulum-v5"), 7, num_lanes=2)
    options = RayEvaluator(other_processors=answer, node_timeout=1.0)
    if answer == "refuse":
        with pytest.raises(WorkerError, match="no node with workers for 1 s"):
            options(objective, snapshot(POLICY))
    else:
        options(objective, snapshot(POLICY)).close()
    assert "rounds differently from this machine's" in caplog.text
    assert ("is not used" in caplog.text) == (answer == "refuse")


def test_other_parameters_than_were_sent_are_noticed(machines, monkeypatch, caplog):
    machines.have(1)
    objective = EnvObjective(POLICY, env("InvertedPendulum-v5"), 7, num_lanes=2)
    running = RayEvaluator()(objective, snapshot(POLICY))
    results = running.evaluate(snapshot(POLICY), pairs(1))
    monkeypatch.setattr(type(messages.Posted(0, b"", [])), "checksum", property(lambda _: 1))

    def attend():
        if "holds other parameters than were sent; " in caplog.text:
            raise InterruptedError("seen")

    running.attend = attend
    with pytest.raises(InterruptedError, match="seen"):
        next(results)
    running.close()


def test_the_command_trains_on_a_cluster_and_its_report_says_who_was_there(machines, tmp_path):
    machines.have(1)
    words = ["env=cartpole", "strategy.num_pairs=2", "video=false", "policy.hidden=[4]", "total_timesteps=300"]
    done = torch_es(*words, "evaluator=ray", "run_dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nodes 1 | workers 2 | tasks in flight 4" in done.stdout
    assert torch_es("report", "r", cwd=tmp_path).returncode == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Machines that joined and left" in page
    assert re.search(r"Node 127.0.1.\d+ joined with 2 workers", page)
    done = torch_es("evaluate", "r", cwd=tmp_path)
    assert done.returncode == 2
    assert "--import torch_es.cluster" in done.stderr
