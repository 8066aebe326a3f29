"""Modules that a function makes: in each worker anew, so that none travels."""

import os
import threading
from functools import partial

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn

from torch_es import ES
from torch_es.errors import WorkerError
from torch_es.nn import ObservationNorm
from torch_es.nn.moments import Moments
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


def there(made):
    """Return what a worker makes of it."""
    return cloudpickle.loads(cloudpickle.dumps(made))


def test_what_travels_does_not_grow_with_the_module():
    small, large = (len(cloudpickle.dumps(objective(partial(network, hidden=size)))) for size in (5, 5000))
    assert large < small + 100
    player = there(objective(network)).player()
    for ours, theirs in zip(player._module.parameters(), network().parameters(), strict=True):
        assert ours.equal(theirs)


def test_it_travels_on():
    """From a cluster's node to its workers, for example."""
    there(there(objective(network))).player()


def test_the_settings_of_this_process_count_in_a_worker(restored_settings):
    torch.set_default_dtype(torch.float64)
    assert trained(flat, 0).equal(trained(flat, 1))


def flat():
    torch.manual_seed(0)
    return nn.Linear(4, 1)


@pytest.fixture
def restored_settings():
    yield
    torch.set_default_dtype(torch.float32)


def test_a_function_that_makes_another_module_each_time_is_named():
    with (
        pytest.raises(
            WorkerError, match=r"`policy` must make the module that the trainer has.*`0.weight` was .*digest"
        ),
        ES(another, fitness_fn=answer, num_workers=1, num_pairs=1) as es,
    ):
        es.learn(2)


class Keeping(nn.Module):
    """A module with a buffer that is not saved."""

    def __init__(self, value=1.0, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=dtype))
        self.register_buffer("value", torch.tensor(value), persistent=False)


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (
            partial(network, hidden=5),
            partial(network, hidden=6),
            r"`3.weight` was \[1, 5\] of torch.float32, is \[1, 6\]",
        ),
        (Keeping, partial(Keeping, 2.0), "`value` was .*digest"),
        (Keeping, partial(Keeping, dtype=torch.bfloat16), "`weight` was .*float32, is .*bfloat16"),
    ],
    ids=["shape", "buffer that is not saved", "dtype"],
)
def test_what_differs_there_is_named(first, second, named):
    makes = iter((first, second))
    made = objective(lambda: next(makes)())
    with pytest.raises(ValueError, match=named):
        there(made).player()


def test_a_buffer_or_layer_that_was_changed_here_cannot_be_there():
    with ES(network, fitness_fn=answer, num_workers=1, num_pairs=1) as es:
        es.network[1].running_mean.add_(1)
        with pytest.raises(WorkerError, match=r"`1.running_mean` was .*give the module itself, which is then sent"):
            es.learn(2)
    made = objective(network)
    made.module[2] = nn.ReLU()
    with pytest.raises(ValueError, match=r"`2 .layer.` was ReLU, is Tanh"):
        there(made).player()


def test_a_sparse_buffer_is_compared():
    made = objective(sparse)
    there(made).player()


def sparse():
    module = network()
    module.register_buffer("mask", torch.eye(3).to_sparse())
    return module


class Locked:
    """A function that cannot travel."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self):
        return network()


def test_a_function_that_cannot_travel_is_named_as_the_policy():
    with (
        pytest.raises(TypeError, match=r"A worker cannot be sent `policy.lock`, a lock.*Keep it out of there"),
        ES(Locked(), fitness_fn=answer, num_workers=1) as es,
    ):
        es.learn(2)


class Grown(nn.Module):
    """Derives a tensor from its weights."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.prepare(None)

    def prepare(self, reference):
        self.grown = 1.0 * self.weight.detach()

    def forward(self, x):
        return x * self.grown


@pytest.mark.parametrize("workers", [0, 1])
def test_a_module_that_derives_tensors_is_the_trained_one_afterwards(workers):
    module = Grown()
    with ES(module, fitness_fn=lambda m: -float((m(torch.ones(2)) - 1).square().sum()), num_workers=workers) as es:
        es.learn(500)
    assert module.weight.abs().sum() > 0
    assert torch.equal(module.grown, module.weight)


def test_a_norm_that_will_never_measure_is_told(caplog):
    norm = ObservationNorm(2)
    network = nn.Sequential(norm, nn.Linear(2, 1))
    FunctionObjective(network, float, OpenAIES(network).ask().perturbation)
    assert "ObservationNorm has measured nothing, and with `fitness_fn` it never does" in caplog.text
    caplog.clear()
    norm.update(Moments(1.0, np.zeros(2), np.ones(2)))
    FunctionObjective(network, float, OpenAIES(network).ask().perturbation)
    assert not caplog.text
