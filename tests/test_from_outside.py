"""A strategy and an evaluator that the package does not have, given to `ES`: its interfaces suffice to write them."""

import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from torch_es import ES, EpisodeRules
from torch_es.cli import config
from torch_es.evaluators import FaultTolerance, SerialEvaluator
from torch_es.rollout import Snapshot
from torch_es.search import Population
from torch_es.search.parameters import FlatParameters
from torch_es.search.perturbation import serial_sum
from torch_es.search.sfc64 import SFC64Noise

SEVERAL = EpisodeRules(per_member=5)  # a single lucky episode would make a parent


class Alone:
    """Members `theta + sigma * eps`, each with noise of its own; member 0 is the parent itself."""

    def __init__(self, seed, generation, sigma):
        self.seed, self.generation, self.sigma = seed, generation, sigma

    def member(self, theta, member, out):
        if member == 0:
            return theta
        eps = torch.empty(1, len(theta))
        SFC64Noise(self.seed, len(theta)).fill(eps, self.generation, [member])
        return torch.add(theta, eps[0], alpha=self.sigma, out=out)


class RandomSearch:
    """(1 + n): the best of a generation is the next parent. It has no optimiser, no pairs and no gradient."""

    def __init__(self, policy, *, sigma=0.1, size=8, seed=0):
        self.parameters, self.seed = FlatParameters(policy), seed
        self.sigma, self.size, self.generation = sigma, size, 0
        self.theta = self.parameters.read_masters()

    def ask(self):
        noise = Alone(self.seed, self.generation, self.sigma)
        return Population(self.generation, noise, lambda: self.theta, self.parameters, self.size, unit_size=1)

    def tell(self, outcome, summation=None):
        best = int(np.argmax(outcome.fitness))
        self.move(self.ask().member(best))
        self.generation += 1
        return {"search/best": float(outcome.fitness[best])}

    def move(self, theta):
        self.theta = theta.clone()
        self.parameters.write_all(self.theta)

    def state_dict(self):
        return {"generation": self.generation, "theta": self.theta}

    def load_state_dict(self, state):
        self.generation = state["generation"]
        self.move(state["theta"])


class ThreadEvaluator:
    """Hands each task to a thread that has a player of its own."""

    def __init__(self, objective, snapshot: Snapshot, threads=2):
        self.players = queue.SimpleQueue()
        self.pool, self.threads = ThreadPoolExecutor(threads), threads
        for _ in range(threads):
            self.players.put(objective.player())

    def evaluate(self, snapshot, next_tasks):
        playing, tasks = [], ()
        while tasks is not None or playing:
            while len(playing) < self.threads and (tasks := next_tasks()):
                playing += [self.pool.submit(self.play, snapshot, task) for task in tasks]
            if playing:
                yield playing.pop(0).result()

    def play(self, snapshot, task):
        player = self.players.get()
        player.begin(snapshot)
        player.submit(task)
        while not (results := player.advance()):
            pass
        self.players.put(player)
        return results[0]

    noise_sum = staticmethod(serial_sum)
    metrics = property(lambda self: {})

    def close(self):
        self.pool.shutdown()


def learned(strategy="openai_es", evaluator=None, **options):
    torch.manual_seed(0)
    with ES(nn.Linear(4, 2), "CartPole-v1", strategy=strategy, evaluator=evaluator, seed=1, **options) as es:
        es.learn(60_000, callback=lambda row: row["rollout/ep_rew_mean"] < 450)
        return es, np.mean([episode.return_ for episode in es.evaluate(10)])


def test_a_strategy_without_pairs_or_an_optimiser_trains_cartpole(tmp_path):
    es, mean = learned(RandomSearch, rules=SEVERAL, num_workers=0)
    assert mean > 400
    assert es.trainer.played.outcome.returns.shape == (8, 5)
    es.save(tmp_path / "model")
    again = ES.load(tmp_path / "model", nn.Linear(4, 2), strategy=RandomSearch, num_workers=0)
    assert [e.return_ for e in again.evaluate(3)] == [e.return_ for e in es.evaluate(3)]


def test_it_may_be_made_before_and_its_members_go_to_workers():
    policy = nn.Linear(4, 2)
    thetas = []
    for num_workers in (0, 2):
        nn.init.zeros_(policy.weight)
        nn.init.zeros_(policy.bias)
        with ES(policy, "CartPole-v1", strategy=RandomSearch(policy), num_workers=num_workers) as es:
            es.learn(100)
            thetas.append(es.strategy.theta)
    assert torch.equal(*thetas)


def test_an_evaluator_of_threads_trains_cartpole_with_the_bits_of_the_serial_one():
    options = {"sigma": 0.2, "num_pairs": 4}
    threads, mean = learned(evaluator=ThreadEvaluator, **options)
    assert mean > 400
    assert torch.equal(threads.strategy.theta, learned(num_workers=0, **options)[0].strategy.theta)


def test_the_command_line_names_it_with_its_arguments():
    thetas = []
    for chosen in (["evaluator=serial"], [f"evaluator.name={__name__}:ThreadEvaluator", "+evaluator.threads=3"]):
        search = ["strategy.sigma=0.2", "strategy.num_pairs=8", "optimizer.lr=0.1"]
        with config.build(config.compose_config(["env=cartpole", "policy=linear", *search, *chosen])) as es:
            es.learn(60_000, callback=lambda row: row["rollout/ep_rew_mean"] < 300)
            assert es.trainer.played.returns.mean() >= 300
            thetas.append(es.strategy.theta)
    assert es.evaluator().threads == 3
    assert torch.equal(*thetas)


def with_any_options(objective, snapshot, **options):
    evaluator = SerialEvaluator(objective)
    evaluator.options = options
    return evaluator


def test_a_function_that_takes_any_options_gets_all():
    given = [
        f"evaluator.name={__name__}:with_any_options",
        "+evaluator.nodes=[a,b]",
        "evaluator.tolerance.max_retries=1",
    ]
    with config.build(config.compose_config(["env=cartpole", *given])) as es:
        tolerance = FaultTolerance(max_retries=1)
        assert es.evaluator().options == {"num_workers": None, "tolerance": tolerance, "nodes": ["a", "b"]}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluator.name=threads"], "`evaluator.name` must be MODULE:CALLABLE, got 'threads': No module named"),
        (["evaluator.name=math:pi"], "`evaluator.name` math:pi must make an evaluator, got float"),
        ([f"evaluator.name={__name__}:ThreadEvaluator", "+evaluator.thread=3"], "`thread` is not an argument of ES"),
    ],
)
def test_a_name_on_the_command_line_that_makes_none_is_refused(overrides, message):
    with pytest.raises((TypeError, ValueError), match=message):
        config.build(config.compose_config(["env=cartpole", *overrides]))


def test_both_at_once():
    es, mean = learned(RandomSearch, ThreadEvaluator, rules=SEVERAL)
    assert mean > 400
    assert torch.equal(es.strategy.theta, learned(RandomSearch, rules=SEVERAL, num_workers=0)[0].strategy.theta)
