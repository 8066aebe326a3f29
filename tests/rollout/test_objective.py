"""Modules that a function makes: in each worker anew, so that none travels."""

import os
import threading
from functools import partial

import cloudpickle
import pytest
import torch
from torch import nn

from torch_es import ES
from torch_es.errors import WorkerError
from torch_es.rollout import FunctionObjective
from torch_es.search import OpenAIES


def network(seed=0, hidden=5):
    torch.manual_seed(seed)
    base = nn.Sequential(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.Tanh(), nn.Linear(hidden, 1))
    base[0].requires_grad_(False)
    return base.eval()


def another():
    """Make a module with a frozen layer of its own each time."""
    module = network()
    nn.init.constant_(module[0].weight, int.from_bytes(os.urandom(2)))
    return module


def answer(module):
    with torch.no_grad():
        return float(module(torch.ones(2, 4)).sum())


def unsendable():
    module = network()
    module.lock = threading.Lock()  # which pickle refuses
    return module


def trained(policy, workers):
    with ES(policy, fitness_fn=answer, num_workers=workers, num_pairs=4, eval_every=0) as es:
        return es.learn(24).strategy.theta


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_has_the_bits_of_one_that_was_given_the_module(workers):
    expected = trained(network(), 0)
    assert trained(network, workers).equal(expected)
    assert trained(unsendable, workers).equal(expected)  # no module travels


def objective(make):
    module = make()
    perturbation = OpenAIES(module).ask().perturbation
    return FunctionObjective(module, answer, perturbation, make)


def test_what_travels_does_not_grow_with_the_module():
    small, large = (len(cloudpickle.dumps(objective(partial(network, hidden=size)))) for size in (5, 5000))
    assert large < small + 100
    there = cloudpickle.loads(cloudpickle.dumps(objective(network)))
    assert all(torch.equal(a, b) for a, b in zip(there.module.parameters(), network().parameters(), strict=True))


def test_a_function_that_makes_another_module_each_time_is_named():
    with (
        pytest.raises(
            WorkerError, match=r"`policy` must make the same module each time.*`frozen parameters and buffers`"
        ),
        ES(another, fitness_fn=answer, num_workers=1, num_pairs=1) as es,
    ):
        es.learn(2)
    sizes = iter((5, 6))
    with pytest.raises(ValueError, match=r"`0.weight` was|`3.weight` was \[1, 5\], is \[1, 6\]"):
        cloudpickle.loads(cloudpickle.dumps(objective(lambda: network(hidden=next(sizes)))))


def test_a_buffer_that_was_changed_here_cannot_be_there():
    with ES(network, fitness_fn=answer, num_workers=1, num_pairs=1) as es:
        es.network[1].running_mean.add_(1)
        with pytest.raises(WorkerError, match="give the module itself, which is then sent"):
            es.learn(2)
