"""Virtual batch norm against hand computations and torch's own batch norm."""

import copy

import gymnasium as gym
import pytest
import torch
from torch import nn

from torch_es import OpenAIES, Policy
from torch_es.nn import VirtualBatchNorm, collect_statistics, convert_batch_norm

LAYERS = {
    "1d": (nn.BatchNorm1d(4), (4,)),
    "1d long": (nn.BatchNorm1d(4), (4, 5)),
    "2d": (nn.BatchNorm2d(4), (4, 5, 6)),
    "3d": (nn.BatchNorm3d(4), (4, 2, 3, 5)),
    "plain": (nn.BatchNorm2d(4, affine=False, eps=0.1), (4, 5, 6)),
}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cnn():
    """As torchvision's: convolutions without bias, a block that is used as a shortcut, a linear end."""

    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(channels)

        def forward(self, x):
            return torch.relu(x + self.bn(self.conv(x)))

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Block(8), nn.Flatten(), nn.Linear(8 * 36, 2)
    )


@pytest.mark.parametrize("kind", LAYERS)
def test_normalises_by_the_reference_alone(kind):
    """On the reference batch itself, torch's batch norm in training mode; elsewhere the same line."""
    layer, shape = LAYERS[kind]
    layer = copy.deepcopy(layer).train()
    if layer.affine:
        with torch.no_grad():
            layer.weight.copy_(randn(4, seed=1))
            layer.bias.copy_(randn(4, seed=2))
    reference, x = 3 * randn(16, *shape, seed=3) + 1, randn(2, *shape, seed=4)
    virtual = convert_batch_norm(copy.deepcopy(layer))
    collect_statistics(virtual, reference)
    torch.testing.assert_close(virtual(reference), layer(reference), rtol=1e-4, atol=1e-5)
    dims = [0, *range(2, reference.dim())]
    mean, variance = reference.mean(dims, keepdim=True), reference.var(dims, correction=0, keepdim=True)
    expected = (x - mean) / (variance + layer.eps).sqrt()
    if layer.affine:
        space = (1, 4, *[1] * (x.dim() - 2))
        expected = expected * layer.weight.reshape(space) + layer.bias.reshape(space)
    torch.testing.assert_close(virtual(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)])
def test_the_2016_form_counts_the_example_as_one_more_of_the_batch(shape):
    layer = VirtualBatchNorm(3, form="2016")
    reference, x = randn(7, *shape, seed=1), randn(4, *shape, seed=2)
    collect_statistics(layer, reference)
    for i in range(4):
        joint = torch.cat([reference, x[i : i + 1]])
        expected = nn.functional.batch_norm(joint, None, None, training=True)[-1]
        torch.testing.assert_close(layer(x)[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["2017", "2016"])
def test_neither_other_examples_nor_the_present_batch_count(form):
    network = convert_batch_norm(cnn(), form)
    collect_statistics(network, randn(16, 3, 8, 8))
    x = randn(6, 3, 8, 8, seed=5)
    together = network(x)
    alone = torch.cat([network(each[None]) for each in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    before = [b.clone() for b in network.buffers()]
    network.train()(100 * x)
    assert all(torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))


def test_statistics_follow_the_weights():
    network, reference = convert_batch_norm(cnn()), randn(16, 3, 8, 8)
    collect_statistics(network, reference)
    before = network(reference)
    with torch.no_grad():
        network[0].weight.mul_(3)
    collect_statistics(network, reference)
    # scaled before the first norm, and taken out by it: only the small eps sees it
    torch.testing.assert_close(network(reference), before, rtol=1e-2, atol=1e-3)
    assert network[1].variance.mean() > 1.0


def test_a_converted_network_keeps_its_parameters_and_answers_as_before():
    original = cnn().train()
    converted = convert_batch_norm(copy.deepcopy(original))
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in converted.modules())
    assert [n for n, _ in converted.named_parameters()] == [n for n, _ in original.named_parameters()]
    reference = randn(16, 3, 8, 8)
    collect_statistics(converted, reference)
    torch.testing.assert_close(converted(reference), original(reference), rtol=1e-4, atol=1e-4)


def test_a_layer_in_two_places_stays_one():
    shared = nn.BatchNorm1d(2)
    network = convert_batch_norm(nn.Sequential(shared, nn.Sequential(nn.ReLU(), shared)))
    assert network[0] is network[1][1]
    assert network[0].weight is shared.weight


def test_statistics_are_not_saved_and_are_asked_for():
    network = convert_batch_norm(cnn())
    collect_statistics(network, randn(16, 3, 8, 8))
    fresh = convert_batch_norm(cnn())
    fresh.load_state_dict(network.state_dict())
    with pytest.raises(RuntimeError, match="collect_statistics"):
        fresh(randn(1, 3, 8, 8))
    collect_statistics(fresh, randn(16, 3, 8, 8))
    x = randn(2, 3, 8, 8, seed=9)
    assert torch.equal(fresh(x), network(x))


def test_evolves_with_statistics_of_each_member():
    """A network whose output is one normalised number: it can only be learned by weight and bias behind the norm."""
    network = convert_batch_norm(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)))
    reference = torch.linspace(-1, 1, 9)[:, None]

    @torch.no_grad()
    def fitness(module):
        collect_statistics(module, reference)
        return -float((module(reference) - 2 * reference - 1).square().mean())

    es = OpenAIES(network, lambda p: torch.optim.Adam(p, lr=0.1), sigma=0.1, num_pairs=8)
    for _ in range(150):
        es.tell([fitness(member) for member in es.ask()])
    assert fitness(network) > -0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_features": 0}, "num_features"),
        ({"num_features": 2, "eps": 0.0}, "eps"),
        ({"num_features": 2, "form": "x"}, "form"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        VirtualBatchNorm(**arguments)


def test_bad_input():
    with pytest.raises(ValueError, match="2 channels"):
        VirtualBatchNorm(2)(torch.zeros(1, 3))


def test_a_policy_refuses_it_by_name():
    network = convert_batch_norm(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    with pytest.raises(ValueError, match="VirtualBatchNorm at `1`"):
        Policy(network, gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2))
