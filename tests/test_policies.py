import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from torch_es.moments import Moments
from torch_es.nn import ObservationNorm
from torch_es.policies import Policy, make_head, mlp

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


def test_everything_needed_to_act_is_in_the_state_dict():
    policy, other = (Policy(mlp(3, 1, seed=s), BOX3, BOX1) for s in (0, 1))
    policy.observation_norm.update(Moments.of(np.random.default_rng(0).normal(3, 2, (50, 3))))
    other.load_state_dict(policy.state_dict())
    x = np.random.default_rng(1).normal(3, 2, (4, 3))
    np.testing.assert_array_equal(policy.act(x), other.act(x))


def test_single_and_batched_observations():
    policy = Policy(mlp(3, 1, output_scale=1.0), BOX3, BOX1)
    x = np.random.default_rng(1).normal(size=(4, 3))
    np.testing.assert_allclose(policy.act(x)[2], policy.act(x[2]), rtol=1e-5)
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
    with pytest.raises(ValueError, match="`action_space` must be Box or Discrete, got MultiBinary"):
        make_head(gym.spaces.MultiBinary(2))
    with pytest.raises(ValueError, match="`observation_space` must be a Box, got Discrete"):
        Policy(nn.Linear(3, 1), gym.spaces.Discrete(3), BOX1)


def test_heads_answer_alike_for_arrays_and_tensors():
    out = np.array([[0.2, -3.0], [5.0, 0.1]], np.float32)
    for space in (gym.spaces.Box(-1, 2, (2, 1)), gym.spaces.Discrete(2, start=5)):
        head = make_head(space)
        np.testing.assert_array_equal(head(out), head(torch.from_numpy(out)).numpy())
        assert all(space.contains(action) for action in head(out))


def test_mlp_is_seeded_and_leaves_the_global_state():
    state = torch.get_rng_state()
    a, b, c = mlp(3, 2, seed=1), mlp(3, 2, seed=1), mlp(3, 2, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a[0].weight, b[0].weight)
    assert not torch.equal(a[0].weight, c[0].weight)
    assert torch.allclose(a[0].weight.norm(dim=1), torch.ones(64))
    assert torch.allclose(a[4].weight.norm(dim=1), torch.full((2,), 0.01))
