"""Modules that pickle refuses train in workers, with the bits that they have without."""

import pickle
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations as P

from torch_es import ES
from torch_es.nn import ObservationNorm
from torch_es.nn.carried import copied, dumps


def chain(layer=lambda layer: layer):
    torch.manual_seed(0)
    return nn.Sequential(layer(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 2))


MODULES = {
    "scripted": lambda: torch.jit.script(chain()),
    "scripted part": lambda: nn.Sequential(ObservationNorm(4), torch.jit.script(chain())),
    "weight_norm": lambda: chain(P.weight_norm),
    "spectral_norm": lambda: chain(P.spectral_norm),
    "orthogonal": lambda: chain(P.orthogonal),
}


@pytest.mark.parametrize("name", MODULES)
def test_it_trains_in_workers_as_without(name):
    thetas = []
    for workers in (0, 2):
        with ES(MODULES[name](), "CartPole-v1", num_pairs=4, sigma=0.1, num_workers=workers, eval_every=0) as es:
            es.learn(1)
        thetas.append(es.strategy.theta)
    assert torch.equal(*thetas)
    assert es.strategy.generation == 1


@pytest.mark.parametrize("name", MODULES)
def test_a_copy_and_what_comes_back_answer_alike_and_apart(name):
    network = MODULES[name]().eval()
    list(network.parameters())[-1].requires_grad_(False)
    x = torch.randn(3, 4)
    with torch.no_grad():
        expected = network(x)
        for other in (copied(network), pickle.loads(dumps(network))):
            assert torch.equal(other(x), expected)
            flags = [(n, p.requires_grad, p.is_leaf) for n, p in other.named_parameters()]
            assert flags == [(n, p.requires_grad, p.is_leaf) for n, p in network.named_parameters()]
            for p in other.parameters():
                p.add_(1.0)
            assert not torch.equal(other(x), expected)
    assert torch.equal(network(x), expected)


def test_what_cannot_be_copied_is_named():
    network = chain()
    network.lock = threading.Lock()
    with (
        ES(network, "CartPole-v1", num_pairs=2, num_workers=0) as es,
        pytest.raises(TypeError, match=r"`policy` \(Sequential\) must be a module that can be copied.*lock"),
    ):
        es.learn(1)
