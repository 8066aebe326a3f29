"""Virtual batch norm against hand computations and torch's own batch norm."""

import copy
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper, boxed, played_alike
from torch import nn

from torch_es import ES, OpenAIES, Policy
from torch_es.lanes.choice import make_lanes
from torch_es.lanes.modules import CopiedLanes, TracedLanes
from torch_es.nn import VirtualBatchNorm, collect_statistics, convert_batch_norm
from torch_es.search.parameters import FlatParameters

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


def test_a_policy_needs_a_reference_batch_for_it():
    network = convert_batch_norm(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    with pytest.raises(ValueError, match="`reference` must be given"):
        Policy(network, gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2))


def small():
    torch.manual_seed(0)
    return convert_batch_norm(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)))


def hand(network, reference, x):
    """The plain formulas, for the weights that the network has."""
    first, norm, _, last = network
    hidden = first(reference)
    mean, variance = hidden.mean(0), hidden.var(0, correction=0)
    return last(torch.tanh((first(x) - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias))


@pytest.mark.parametrize("kind", [TracedLanes, CopiedLanes])
@torch.no_grad()
def test_each_lane_measures_the_reference_under_its_own_weights(kind):
    """Exactly the hand computation; other lanes, other examples and what was there before do not count."""
    network, reference = small(), randn(128, 3, seed=1)
    lanes = kind(network, 3, boxed(3), reference.numpy())
    member, parameters = copy.deepcopy(network), FlatParameters(network)
    thetas = [parameters.read_masters() + 0.5 * randn(parameters.dim, seed=i) for i in range(4)]
    for lane in range(3):
        lanes.write(lane, thetas[lane])
    lanes.write(1, thetas[3])  # weights change, statistics change
    for x in (randn(3, 3, seed=7), 100 * randn(3, 3, seed=8)):
        answers = lanes.forward(x.numpy(), range(3))
        for lane, theta in enumerate((thetas[0], thetas[3], thetas[2])):
            FlatParameters(member).write_module(theta)
            np.testing.assert_allclose(answers[lane], hand(member, reference, x[lane]), rtol=1e-4, atol=1e-5)


def test_it_is_traced_and_batched():
    assert isinstance(make_lanes(small(), 3, boxed(3), randn(16, 3).numpy()), TracedLanes)


@torch.no_grad()
def test_one_forward_of_the_reference_a_member():
    passes = []

    class Spy(nn.Module):
        def forward(self, x):
            passes.append(len(x))
            return x

    network = nn.Sequential(*small(), Spy())
    lanes = CopiedLanes(network, 1, boxed(3), randn(128, 3).numpy())
    theta = FlatParameters(network).read_masters()
    passes.clear()
    lanes.write(0, theta)
    for _ in range(5):
        lanes.forward(np.zeros((1, 3), np.float32), [0])
    assert passes == [128, 1, 1, 1, 1, 1]


def test_training_processes_and_lanes_give_the_same_bits():
    reference = randn(16, 3, seed=2)
    played_alike(Policy(small(), Stepper.observation_space, Stepper.action_space, reference=reference), Stepper)


def test_acting_measures_again_when_weights_change_and_not_else():
    network = small()
    policy = Policy(network, Stepper.observation_space, Stepper.action_space, reference=randn(16, 3, seed=2))
    x = randn(5, 3, seed=3)
    with torch.no_grad():
        np.testing.assert_allclose(policy.act(x.numpy())[0], hand(network, policy.reference, x).clip(-1, 1), atol=1e-5)
        network[0].weight.data += 1.0  # also behind autograd's back
        np.testing.assert_allclose(policy.act(x.numpy())[0], hand(network, policy.reference, x).clip(-1, 1), atol=1e-5)
    passes = []
    network[0].register_forward_hook(lambda _, inputs, __: passes.append(len(inputs[0])))
    policy.act(100 * x.numpy())
    assert passes == [5]
    other = copy.deepcopy(policy)
    other.load_state_dict({**policy.state_dict(), "reference": 3 * policy.reference + 1})
    assert not np.allclose(other.act(x.numpy())[0], policy.act(x.numpy())[0])


def test_what_was_trained_answers_as_it_predicts(tmp_path):
    network, x = small(), randn(5, 3, seed=3)
    with ES(network, Stepper, num_pairs=4, num_workers=0, sigma=0.5) as es:
        es.learn(200)
        answers = network(x), es.policy(x)
        action, _ = es.predict(x.numpy())
        es.save(tmp_path / "saved")
    for answer in answers:
        np.testing.assert_allclose(answer.detach().clip(-1, 1), action, atol=1e-6)
    again = small()
    ES.load(tmp_path / "saved", again, Stepper)
    np.testing.assert_allclose(again(x).detach().clip(-1, 1), action, atol=1e-6)
    with torch.no_grad():
        es.policy.network[0].weight += 1.0
        changed = es.policy(x)
        np.testing.assert_allclose(changed, es.predict(x.numpy())[0], atol=1e-6)


def test_a_layer_in_two_places_is_told_of():
    """Each place has statistics of its own; one layer can hold those of one."""
    shared = VirtualBatchNorm(4)
    network = nn.Sequential(nn.Linear(3, 4), shared, nn.Linear(4, 4), shared)
    for _ in range(2):
        with pytest.raises(ValueError, match="must be used once a forward"):
            collect_statistics(network, randn(16, 3))
    collect_statistics(nn.Sequential(shared), randn(16, 4))


def test_a_functions_members_measure_for_themselves():
    """What was measured before belongs to other weights."""
    network, reference = small(), randn(16, 3)
    collect_statistics(network, reference)

    def fitness(module):
        if module is not None and measuring:
            collect_statistics(module, reference)
        return float(module(reference).sum())

    measuring = True
    with ES(network, fitness_fn=fitness, num_pairs=2, num_workers=0) as es:
        es.learn(1)
        measuring = False
        with pytest.raises(RuntimeError, match="has no statistics; call collect_statistics"):
            es.learn(1)


def test_what_is_converted_keeps_its_precision_or_says_what_is_missing():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)).double()
    converted, reference = convert_batch_norm(copy.deepcopy(network)), randn(16, 3).double()
    collect_statistics(converted, reference)
    torch.testing.assert_close(converted(reference), network(reference))
    with pytest.raises(ValueError, match="LazyBatchNorm1d does not know its features yet"):
        convert_batch_norm(nn.Sequential(nn.LazyBatchNorm1d()))


def test_saved_and_loaded_in_a_fresh_process(tmp_path):
    """The reference batch is saved; statistics are derived from it again."""
    with ES(small(), Stepper, num_pairs=4, num_workers=0, seed=5) as es:
        es.learn(200)
        es.save(tmp_path / "saved")
        x = randn(4, 3, seed=6).numpy()
        expected, returns = es.predict(x)[0], [r.return_ for r in es.evaluate(3)]
        assert es.policy.reference.shape == (128, 3)
    script = f"""
import sys; sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]}
import torch
from test_virtual_batch_norm import ES, Stepper, randn, small
es = ES.load({str(tmp_path / "saved")!r}, small(), Stepper, seed=5, num_workers=0)
print(es.predict(randn(4, 3, seed=6).numpy())[0].tolist(), [r.return_ for r in es.evaluate(3)])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == f"{expected.tolist()} {returns}"


def test_batch_norm_is_named_with_the_way_out():
    with pytest.raises(ValueError, match=r"BatchNorm1d in train mode at `1`.*convert_batch_norm\(policy\)"):
        ES(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), Stepper)
