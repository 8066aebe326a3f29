import numpy as np
import pytest
import torch
from helpers import boxed
from modules import Counting
from torch import nn

from torch_es import ES
from torch_es.lanes import make_lanes


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
