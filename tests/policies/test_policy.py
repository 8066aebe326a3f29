import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from sample_spaces import BOX1, BOX3
from torch import nn

from torch_es.nn.moments import Moments
from torch_es.policies import Policy, mlp


def test_acting_changes_no_statistics_and_no_mode():
    policy = Policy(nn.Sequential(nn.Linear(3, 1), nn.Dropout()), BOX3, BOX1)
    policy.train()
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    policy.act(np.ones((5, 3)))
    assert all(torch.equal(v, policy.state_dict()[k]) for k, v in before.items())
    assert policy.network.training


class Counting(nn.Module):
    """Keeps in a buffer how often it was called."""

    def __init__(self):
        super().__init__()
        self.linear, self.frozen = nn.Linear(3, 1), nn.Dropout().eval()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return self.frozen(self.linear(x)) * self.calls


def test_a_network_keeps_its_buffers_and_each_of_its_modes():
    network = Counting().requires_grad_(False)
    policy = Policy(network, BOX3, BOX1)
    first = policy.act(np.ones(3))[0]
    assert policy.act(np.ones(3))[0] == first
    assert network.calls == 0
    assert (network.training, network.linear.training, network.frozen.training) == (True, True, False)


def test_a_policy_of_low_precision_acts():
    for dtype in (torch.bfloat16, torch.float16):
        action, _ = Policy(nn.Linear(3, 1).to(dtype), BOX3, BOX1).act(np.ones(3))
        assert action.dtype == BOX1.dtype


def test_everything_needed_to_act_is_in_the_state_dict():
    policy, other = (Policy(mlp(3, 1, seed=s), BOX3, BOX1) for s in (0, 1))
    policy.observation_norm.update(Moments.of(np.random.default_rng(0).normal(3, 2, (50, 3))))
    other.load_state_dict(policy.state_dict())
    x = np.random.default_rng(1).normal(3, 2, (4, 3))
    np.testing.assert_array_equal(policy.act(x)[0], other.act(x)[0])


def test_single_and_batched_observations():
    policy = Policy(mlp(3, 1, output_scale=1.0), BOX3, BOX1)
    x = np.random.default_rng(1).normal(size=(4, 3))
    np.testing.assert_allclose(policy.act(x)[0][2], policy.act(x[2])[0], rtol=1e-5)
    with pytest.raises(ValueError, match=r"`observation` must have shape \(3,\)"):
        policy.act(np.zeros(4))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(3, 2), r"`policy` must answer \(batch, 1\) to fit the action space, got \(1, 2\)"),
        (nn.Linear(4, 1), r"`policy` must take a batch of observations of shape \(3,\)"),
        (nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1)), "`policy` holds BatchNorm1d in train mode at `1`"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        Policy(network, BOX3, BOX1)


class Key(nn.Linear):
    """Takes a part of the observation, which need not be there."""

    def __init__(self, key):
        super().__init__(3, 1)
        self.key = key

    def forward(self, observation):
        return super().forward(observation[self.key])


class Agent(nn.Linear):
    """An agent of CleanRL, which has no forward."""

    forward = nn.Module().forward
    get_action_and_value = None


@pytest.mark.parametrize(
    ("network", "space", "message"),
    [
        (nn.Linear(4, 1), Dict(a=BOX3, b=BOX1), r"of Dict.*it raised TypeError: linear.*Concatenate\(\)`, first in it"),
        (
            mlp(4, 1),
            Dict(a=BOX3, b=BOX1),
            r"of Dict.*it raised TypeError: ObservationNorm must be made.*Concatenate\(\)`",
        ),
        (Key("absent"), Dict(a=BOX3), "of Dict.*it raised KeyError: 'absent'"),
        (Key(7), BOX3, r"of shape \(3,\); it raised IndexError"),
        (Agent(3, 1), BOX3, r"of shape.*is given as `torch_es\.adapters\.from_cleanrl\(agent\)`"),
    ],
)
def test_whatever_a_network_raises_names_policy_and_what_it_was_given(network, space, message):
    with pytest.raises(ValueError, match=f"`policy` must take a batch of observations {message}"):
        Policy(network, space, BOX1)


@pytest.mark.parametrize(
    ("space", "network", "told"),
    [
        (Box(0, 255, (128,), np.uint8), nn.Linear(128, 1), True),
        (Box(0, 255, (128,), np.uint8), mlp(128, 1), False),
        (Box(0, 255, (4, 4), np.uint8), nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), False),
        (BOX3, nn.Linear(3, 1), False),
    ],
)
def test_large_numbers_that_nothing_normalises_are_told_of(space, network, told, caplog):
    Policy(network, space, BOX1)
    assert ("put `torch_es.nn.ObservationNorm(env.observation_space)` first" in caplog.text) == told


def test_a_head_of_ones_own_makes_actions_of_the_space():
    class Short:
        size = 2

        def __call__(self, output):
            return output[..., :1]

    with pytest.raises(
        ValueError, match=r"`box_head` must return actions \(batch, \*\(2,\)\), got \(1, 1\) for a batch"
    ):
        Policy(nn.Linear(3, 2), Box(-1, 1, (3,)), Box(-1, 1, (2,)), box_head=Short())


def test_memory_in_a_buffer_is_told(caplog):
    class Remembering(nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen += 1
            return super().forward(x)

    Policy(nn.Sequential(Remembering()), Box(-1, 1, (3,)), Discrete(2))
    assert "`policy` changes its buffer 0.seen when it acts." in caplog.text
