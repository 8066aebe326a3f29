import numpy as np
import pytest
import torch
from helpers import boxed
from modules import Counting
from torch import nn

from torch_es import ES
from torch_es.lanes import choose_lanes, make_lanes


def test_writing_a_lane_resets_its_buffers_and_no_others():
    lanes = make_lanes(Counting(), 2, boxed(4))
    theta = torch.cat([p.detach().reshape(-1) for p in Counting().parameters()])
    x = np.ones((2, 4), np.float32)
    for lane in (0, 1):
        lanes.write(lane, theta)
    first = lanes.forward(x, [0, 1]).copy()
    lanes.write(0, theta)
    second = lanes.forward(x, [0, 1])
    np.testing.assert_array_equal(second[0], first[0])
    np.testing.assert_allclose(second[1], 2 * first[1], rtol=1e-6)


def test_the_given_module_is_not_touched():
    module = Counting()
    module.train()
    make_lanes(module, 2, boxed(4))
    assert module.training
    assert module.calls.item() == 0


class Remembering(nn.Module):
    """Keeps what it saw in a buffer that it replaces; the branch on data keeps it from being traced."""

    def __init__(self, grows):
        super().__init__()
        self.linear, self.grows = nn.Linear(4, 2), grows
        self.register_buffer("seen", torch.zeros(0 if grows else 1, 4))

    def forward(self, x):
        if x.abs().max() > 1e9:
            x = x * 0
        self.seen = torch.cat([self.seen, x]) if self.grows else 0.9 * self.seen + 0.1 * x
        return self.linear(x + self.seen.mean(0))


@pytest.mark.parametrize("grows", [False, True])
@torch.no_grad()
def test_a_buffer_that_is_replaced_begins_anew_with_each_episode(grows):
    network = Remembering(grows)
    es = ES(network, "CartPole-v1", num_workers=0, num_pairs=4).learn(200)
    assert es.lanes.kind == "copied"
    assert network.seen.shape == (0 if grows else 1, 4)
    first, again = es.play(member=1), es.play(member=1)
    assert first.return_ == again.return_

    lanes = make_lanes(network, 2, boxed(4))
    x, theta = np.ones((2, 4), np.float32), es.strategy.theta
    for lane in (0, 1):
        lanes.write(lane, theta)
    answers = [lanes.forward(k * x, [0, 1]).copy() for k in (1, 2, 3)]
    lanes.write(0, theta)
    np.testing.assert_array_equal(lanes.forward(x, [0])[0], answers[0][0])


class Kept(nn.Module):
    """Answers with what it saw two steps ago, which it holds itself; `reads` keeps it from being traced."""

    def __init__(self, reads):
        super().__init__()
        self.scale, self.reads = nn.Parameter(torch.ones(1)), reads

    def initial_state(self, number):
        return torch.zeros(number, 4), torch.zeros(number, 4)

    def forward(self, x, state):
        if self.reads and x.sum().item() > 1e9:
            x = -x
        one_ago, two_ago = state
        return two_ago * self.scale, (x, one_ago)


@pytest.mark.parametrize(
    ("make", "kind", "expected"),
    [
        (lambda: Kept(reads=True), "copied", [0, 0, 1, 2, 3]),
        (lambda: Kept(reads=False), "traced", [0, 0, 1, 2, 3]),
    ],
    ids=["copied", "traced"],
)
def test_what_a_network_keeps_stays_when_the_rows_are_written_anew(make, kind, expected):
    network = make()
    assert choose_lanes(network, 2, boxed(4)).kind == kind
    assert steps_of(make_lanes(network, 2, boxed(4))) == expected


class SwappingStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def initial_state(self, number):
        return torch.ones(number, 4), torch.zeros(number, 4)

    def forward(self, x, state):
        a, b = state
        return x * a * self.scale, (b, a.detach())  # a view of what is given


class SwappingBuffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("a", torch.ones(1, 4))
        self.register_buffer("b", torch.zeros(1, 4))

    def forward(self, x):
        answer = x * self.a * self.scale
        self.a, self.b = self.b, self.a
        return answer


@pytest.mark.parametrize("make", [SwappingStates, SwappingBuffers])
def test_what_changes_places_is_not_written_over_each_other(make):
    network = make()
    assert choose_lanes(network, 2, boxed(4)).kind == "traced"
    assert steps_of(make_lanes(network, 2, boxed(4))) == [1, 0, 3, 0, 5]


def steps_of(lanes):
    """What the lanes answer to 1, 2, 3, ..., which one array holds after another."""
    for lane in (0, 1):
        lanes.write(lane, torch.ones(1))
    rows, answers = np.zeros((2, 4), np.float32), []
    for step in range(1, 6):
        rows[:] = step
        answers.append(float(lanes.forward(rows, [0, 1])[1, 2]))
    return answers


class Descending(nn.Module):
    """A step of gradient descent on an energy of its own before it answers; the branch keeps it from being traced."""

    def __init__(self):
        super().__init__()
        self.energy, self.out = nn.Linear(4, 1), nn.Linear(4, 2)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.energy(x).square().sum()
            if energy.item() > 1e-9:
                (gradient,) = torch.autograd.grad(energy, x)
                x = (x - 0.1 * gradient).detach()
        return self.out(x)


def test_a_network_may_take_a_gradient_inside():
    with ES(Descending(), "CartPole-v1", num_workers=0, num_pairs=2) as es:
        es.learn(40)
        assert es.lanes.kind == "copied"


class Counts(nn.Module):
    """Decides by a shape that depends on values."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x) * len(torch.bincount(x[0].abs().clamp(max=9).long()))


def test_a_shape_that_depends_on_values_is_not_traced():
    assert choose_lanes(Counts(), 1, boxed(4)).kind == "copied"
