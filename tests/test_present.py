"""What is written into the module after ES was made is what is evolved, or refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

from torch_es import ES

SMALL = {"num_pairs": 4, "sigma": 0.02, "num_workers": 0}


@pytest.fixture
def good():
    """Balances the pole for 500 steps."""
    network = nn.Linear(4, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0, 0, 0, 0], [0.1, 0.3, 3, 1.0]]))
        network.bias.zero_()
    return network


def zeros():
    network = nn.Linear(4, 2)
    for p in network.parameters():
        nn.init.zeros_(p)
    return network


def test_weights_loaded_afterwards_are_evolved(good):
    network = zeros()
    with ES(network, "CartPole-v1", **SMALL) as es:
        assert es.evaluate(1)[0].return_ < 50
        network.load_state_dict(good.state_dict())
        assert es.evaluate(1)[0].return_ == 500
        es.learn(1)
    assert (network.weight - good.weight).abs().max() < 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_taken_only_if_they_are_others(dtype, good):
    network = zeros().to(dtype)
    with ES(network, "CartPole-v1", **SMALL) as es:
        es.learn(1)
        theta = es.strategy.theta.clone()
        es.evaluate(1)
        assert torch.equal(es.strategy.theta, theta)  # a master of low precision keeps its digits
        network.load_state_dict(good.state_dict())
        assert es.evaluate(1)[0].return_ == 500


@pytest.mark.parametrize("name", ["running_mean", "bias"])
def test_buffers_and_frozen_parameters_loaded_afterwards_reach_the_workers(name, good):
    network = nn.Sequential(nn.BatchNorm1d(4).requires_grad_(False), good).eval()
    with ES(network, "CartPole-v1", **{**SMALL, "num_workers": 1}) as es:
        assert es.evaluate(1)[0].return_ == 500
        pids = es.evaluator().pids
        assert es.evaluator().pids == pids
        getattr(network[0], name).fill_(3.0)
        played = es.evaluate(1)[0].return_
    assert played < 100


@pytest.mark.parametrize("way", ["frozen", "replaced", "added"])
def test_other_trainable_parameters_are_refused_by_name(way):
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with ES(network, "CartPole-v1", **SMALL) as es:
        if way == "frozen":
            network[0].requires_grad_(False)
        elif way == "replaced":
            network[0].weight = nn.Parameter(torch.ones(3, 4))
        else:
            network.extra = nn.Parameter(torch.ones(1))
        name = "extra" if way == "added" else r"0\.weight"
        with pytest.raises(ValueError, match=rf"`policy` must keep the trainable parameters .*{name}"):
            es.evaluate(1)


def test_a_weight_that_is_not_finite_is_refused():
    network = zeros()
    with ES(network, "CartPole-v1", **SMALL) as es:
        with torch.no_grad():
            network.weight[0, 0] = np.nan
        with pytest.raises(ValueError, match="`weight` must be finite"):
            es.learn(1)
