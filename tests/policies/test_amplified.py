"""The last layer is larger for the time of a trial, and bit for bit as before afterwards."""

import pytest
import torch
from torch import nn

from torch_es.policies.amplified import amplified


def small(*layers):
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), *layers)
    nn.init.normal_(network[2].weight, std=1e-6)
    return network, torch.ones(5, 3)


@pytest.mark.parametrize("layers", [(), (nn.ReLU(),)])
def test_outputs_reach_what_was_asked_and_then_all_is_as_before(layers):
    network, x = small(*layers)
    with torch.no_grad():
        network[2].bias.abs_()
    before = [p.clone() for p in network.parameters()]
    with amplified(network, lambda: network(x), 7.0):
        assert network(x).abs().max().item() == pytest.approx(7)
        assert all(map(torch.equal, before[:2], network.parameters()))
    assert all(map(torch.equal, before, network.parameters()))
    with pytest.raises(RuntimeError, match="shapes cannot be"), amplified(network, lambda: network(x), 7.0):
        network(x[:, :2])
    assert all(map(torch.equal, before, network.parameters()))


def test_large_outputs_and_outputs_of_zero_stay_as_they_are():
    network, x = small()
    with torch.no_grad():
        network[2].bias.fill_(9)
    for _ in range(2):
        before = network(x).detach()
        with amplified(network, lambda: network(x), 7.0):
            assert torch.equal(network(x), before)
        nn.init.zeros_(network[2].weight)
        nn.init.zeros_(network[2].bias)
