"""Layers of a few values: what they compute, that no gradient goes through, and that ES learns where autograd can't."""

import copy
from functools import partial

import pytest
import torch
from helpers import Stepper, played_alike
from hypothesis import given, settings
from hypothesis import strategies as st
from modules import SearchesPath, UsesNumpy
from torch import nn

from torch_es import OpenAIES, Policy
from torch_es.nn import HardAttention, QuantizedWeights, Sign, Step, binarize, ternarize


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_steps_and_signs_count_zero_as_above():
    x = torch.tensor([-2.0, -0.0, 0.0, 1e-30, 3.0], dtype=torch.float64)
    assert Step()(x).tolist() == [0, 1, 1, 1, 1]
    assert binarize(x).tolist() == [-1, 1, 1, 1, 1]
    assert Step()(x).dtype == binarize(x).dtype == ternarize(x).dtype == torch.float64


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20))
def test_ternary_weights_by_hand(values):
    """Li & Liu's line for each weight, in plain Python."""
    weight = torch.tensor(values, dtype=torch.float64)
    threshold = 0.7 * sum(abs(v) for v in values) / len(values)
    kept = [abs(v) for v in values if abs(v) > threshold]
    scale = sum(kept) / len(kept) if kept else 0.0
    expected = [scale if v > threshold else -scale if v < -threshold else 0.0 for v in values]
    torch.testing.assert_close(ternarize(weight), torch.tensor(expected, dtype=torch.float64))


def quantized_by_hand(module, quantize):
    """The same module with quantized weights written into it."""
    with torch.no_grad():
        for p in module.parameters():
            if p.dim() > 1:
                p.copy_(quantize(p))
    return module


class TiedEnds(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "conv": (lambda: nn.Conv2d(2, 3, 3), (2, 5, 5)),
    "gru": (lambda: nn.GRU(4, 3), (6, 4)),
    "network": (lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)), (4,)),
    "tied": (TiedEnds, (4,)),
}


@pytest.mark.parametrize("quantize", [binarize, ternarize])
@pytest.mark.parametrize("kind", LAYERS)
def test_any_layer_answers_with_quantized_weights_and_keeps_its_own(kind, quantize):
    make, shape = LAYERS[kind]
    layer, twin = make(), make()
    twin.load_state_dict(layer.state_dict())
    before = {name: p.clone() for name, p in layer.state_dict().items()}
    x = randn(2, *shape)
    got, expected = QuantizedWeights(layer, quantize)(x), quantized_by_hand(twin, quantize)(x)
    torch.testing.assert_close(got, expected)
    assert all(torch.equal(p, before[name]) for name, p in layer.state_dict().items())


POLICIES = {
    "traced": lambda: nn.Sequential(
        QuantizedWeights(nn.Linear(3, 4), binarize),
        Sign(),
        nn.Unflatten(1, (2, 2)),
        HardAttention(2, 2, 1),
        nn.Flatten(),
        QuantizedWeights(nn.Linear(2, 3), ternarize),
        Step(),
        nn.Linear(3, 1),
    ),
    "copied": lambda: nn.Sequential(nn.Linear(3, 4), SearchesPath(), nn.Linear(2, 4), UsesNumpy(), nn.Linear(2, 1)),
}


@pytest.mark.parametrize("kind", POLICIES)
def test_processes_give_the_bits_of_the_serial_evaluator(kind):
    policy = Policy(POLICIES[kind](), Stepper.observation_space, Stepper.action_space)
    played = played_alike(policy, Stepper)
    assert len({result[0] for result in played.values()}) > 4  # returns: members do differ


class Marked(nn.Module):
    """Tells the second number of the one position, of four, whose first number is highest."""

    def __init__(self):
        super().__init__()
        self.attention = HardAttention(2, 1, 1)

    def forward(self, x):
        return self.attention(x)[:, 0, 0]


def marked():
    x = torch.rand(64, 4, 2, generator=torch.Generator().manual_seed(0))
    return x, x[torch.arange(64), x[:, :, 0].argmax(1), 1]


def circle():
    x = 2 * torch.rand(64, 2, generator=torch.Generator().manual_seed(0)) - 1
    return x, 2 * (x.norm(dim=1) < 0.8).float() - 1


def unit(activation, *end):
    return nn.Sequential(nn.Linear(2, 32), activation, nn.Linear(32, 1), *end, nn.Flatten(0))


TASKS = {
    "binary": (lambda: QuantizedWeights(unit(Sign(), Sign()), binarize), circle),
    "steps": (lambda: unit(Step(), Sign()), circle),
    "attention": (Marked, marked),
}


@pytest.mark.parametrize("kind", TASKS)
def test_es_learns_what_autograd_cannot(kind):
    make, data = TASKS[kind][0], TASKS[kind][1]()
    module = make()
    start = error(module, data).item()
    reached = by_autograd(copy.deepcopy(module), data)
    es = OpenAIES(module, partial(torch.optim.Adam, lr=0.05), sigma=0.1, num_pairs=8)
    with torch.no_grad():
        for _ in range(200):
            es.tell([-error(member, data) for member in es.ask()])
    assert error(module, data) < 0.5 * min(start, reached)


def test_autograd_finds_no_way_to_the_bits_of_the_example():
    """examples/binary.py: floats come out, so a loss has a gradient, but none for a weight behind the signs."""
    network = QuantizedWeights(nn.Sequential(nn.Linear(4, 32), Sign(), nn.Linear(32, 2)), binarize)
    network(randn(8, 4)).square().mean().backward()
    reached = [name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()]
    assert len(reached) == 1  # the last bias
    assert reached[0].endswith("2.bias")


def error(module, data):
    x, y = data
    return (module(x) - y).square().mean()


def by_autograd(module, data):
    """Return the error after as many steps of Adam; what decides gets no gradient, or one of zero."""
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(200):
        loss = error(module, data)
        if not loss.requires_grad:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    deciding = [p for name, p in module.named_parameters() if "value" not in name]  # of attention, query and key
    assert not any(p.grad is not None and p.grad.any() for p in deciding)
    return error(module, data).item()


@pytest.mark.parametrize("spread", [0.02, 1.0])
def test_ternary_weights_of_a_large_layer_in_float16_are_those_of_float32(spread):
    weight = (spread * randn(512, 512)).half()
    own, wide = ternarize(weight), ternarize(weight.float())
    assert own.dtype == torch.float16
    torch.testing.assert_close(own.float(), wide, rtol=2e-3, atol=0)
