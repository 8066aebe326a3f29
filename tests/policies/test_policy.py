import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from torch_es.heads import make_head
from torch_es.nn import ObservationNorm
from torch_es.nn.moments import Moments
from torch_es.policies import Policy, mlp

BOX3, BOX1 = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (1,))


def test_observations_are_normalised_cut_and_floored():
    norm = ObservationNorm(3)
    norm.update(Moments.of(np.array([[0.0, 5.0, 0.0], [2.0, 5.0, 0.02]])))
    out = norm(torch.tensor([1.0, 5.4, 100.0]))
    np.testing.assert_allclose(out, [0.0, 4.0, 5.0], rtol=1e-6)  # floor 0.1 for the constant one, limit 5


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
        (nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1)), "`policy` holds BatchNorm1d at `1`"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        Policy(network, BOX3, BOX1)


def test_spaces_without_a_head_are_refused():
    with pytest.raises(ValueError, match=r"`action_space` must be Box.*or a Dict or Tuple of these, got Text"):
        make_head(gym.spaces.Text(2))
    with pytest.raises(ValueError, match=r"`observation_space` must be a Box.*got Text"):
        Policy(nn.Linear(3, 1), gym.spaces.Text(3), BOX1)


WIDE = gym.spaces.Box(np.array([[-1.0], [2.0]], np.float32), np.array([[1.0], [6.0]], np.float32))


def test_bins_are_evenly_spaced_from_bound_to_bound():
    """`low + idx / (N - 1) * (high - low)`: paper.md, from the released code's policies.py."""
    head = make_head(gym.spaces.Box(-0.4, 0.8, (1,)), "uniform:4")
    np.testing.assert_allclose([head(row)[0] for row in np.eye(4)], [-0.4, 0.0, 0.4, 0.8], rtol=1e-5, atol=1e-7)
    head = make_head(gym.spaces.Box(-2, 2, (1,)), "custom:-1,0.25,1")
    np.testing.assert_allclose([head(row)[0] for row in np.eye(3)], [-2, 0.5, 2])
    # each component chooses for itself
    assert make_head(WIDE, "uniform:2")(np.array([0, 1, 1, 0]))[:, 0].tolist() == [1, 2]


def test_squashing_meets_the_bounds_and_their_middle():
    head = make_head(WIDE, "tanh")
    for output, expected in ((-50.0, [-1, 2]), (0.0, [0, 4]), (50.0, [1, 6])):
        np.testing.assert_allclose(head(np.full(2, output, np.float32))[:, 0], expected)


@pytest.mark.parametrize("given", ["clap", "uniform", "uniform:1", "uniform:x", "custom:", "custom:0", "custom:0,2"])
def test_a_wrong_box_head_is_refused(given):
    with pytest.raises(ValueError, match="`box_head` must be clip, tanh, gaussian, uniform:N"):
        make_head(WIDE, given)


def test_box_heads_are_for_boxes_with_bounds():
    with pytest.raises(ValueError, match="`box_head` is for a Box action space, got 'tanh' for Discrete"):
        make_head(gym.spaces.Discrete(2), "tanh")
    for given in ("tanh", "uniform:3"):
        with pytest.raises(ValueError, match="finite bounds"):
            make_head(BOX3, given)


def test_mlp_is_seeded_and_leaves_the_global_state():
    state = torch.get_rng_state()
    a, b, c = mlp(3, 2, seed=1), mlp(3, 2, seed=1), mlp(3, 2, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a[0].weight, b[0].weight)
    assert not torch.equal(a[0].weight, c[0].weight)
    assert torch.allclose(a[0].weight.norm(dim=1), torch.ones(64))
    assert torch.allclose(a[4].weight.norm(dim=1), torch.full((2,), 0.01))
