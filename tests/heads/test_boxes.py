"""From a network's outputs to the actions of a Box."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from sample_spaces import BOX3, WIDE

from torch_es.heads import make_head


def test_bins_are_evenly_spaced_from_bound_to_bound():
    """`low + idx / (N - 1) * (high - low)`, as in the released code of Salimans et al. 2017 (policies.py)."""
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


@pytest.mark.parametrize(("low", "high", "kind"), [(-(2**63), 2**63 - 1, np.int64), (0, 2**64 - 1, np.uint64)])
def test_the_largest_output_is_near_the_largest_whole_number(low, high, kind):
    action = make_head(Box(low, high, (1,), kind))(np.float32([9e30]))
    assert 0.999 * high < int(action[0]) <= high


@pytest.mark.parametrize("given", ["tanh", "uniform:3"])
@pytest.mark.parametrize(("bound", "kind"), [(3e38, np.float32), (1e300, np.float64)])
def test_bounds_whose_distance_is_not_finite_are_refused(bound, kind, given):
    with pytest.raises(ValueError, match="other than clip needs a Box with finite bounds, and a finite distance betw"):
        make_head(Box(-bound, bound, (2,), kind), given)
