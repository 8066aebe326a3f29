"""Every space goes through one contract: a random environment of that space accepts each action, and trains."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from helpers import played_alike
from sample_spaces import BOX3, OBSERVATIONS, Leafwise, Random
from torch import nn

from torch_es import ES
from torch_es.nn.moments import Moments
from torch_es.policies import Policy
from torch_es.spaces import Layout


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_every_observation_space_reaches_the_network_in_its_form(kind):
    space = OBSERVATIONS[kind]
    policy = Policy(Leafwise(space, 2), space, Discrete(2))
    played_alike(policy, lambda: Random(space, Discrete(2)), num_workers=int(kind in ("dict", "picture")))
    with ES(Leafwise(space, 2), lambda: Random(space, Discrete(2)), num_pairs=3, num_workers=0) as es:
        es.learn(100)
        assert es.predict(space.sample())[0] in (0, 1)


def test_a_dict_is_taken_apart_as_the_space_says():
    space = OBSERVATIONS["dict"]
    layout = Layout(space)
    observation = space.sample()
    inputs = layout.inputs(torch.from_numpy(layout.row(observation))[None])
    assert set(inputs) == {"far", "near", "gear"}
    np.testing.assert_allclose(inputs["near"][0], observation["near"])
    np.testing.assert_allclose(inputs["far"][0], observation["far"])
    assert inputs["gear"][0].argmax() == observation["gear"]
    assert inputs["gear"].sum() == 1


def test_leaves_are_normalised_each_by_its_own_scale_and_choices_and_pictures_not():
    space = OBSERVATIONS["dict"]
    policy = Policy(Leafwise(space, 2), space, Discrete(2))
    rows = np.stack([policy.layout.row(space.sample()) for _ in range(400)]).astype(np.float64)
    policy.observation_norm.update(Moments.of(rows))
    normalised = policy.observation_norm(policy.layout.inputs(torch.from_numpy(rows)))
    assert 0.9 < normalised["far"].std() < 1.1
    assert normalised["near"].std() < 0.1  # deviation 0.006, below the floor of 0.1
    assert set(normalised["gear"].unique().tolist()) == {0.0, 1.0}
    picture = OBSERVATIONS["picture"]
    assert Policy(Leafwise(picture, 2), picture, Discrete(2)).observation_norm is None


def test_statistics_of_what_is_not_measured_stay_zero_in_training():
    space = OBSERVATIONS["dict"]
    with ES(Leafwise(space, 2), lambda: Random(space, Discrete(2)), num_pairs=3, num_workers=0) as es:
        es.learn(200)
        norm = es.policy.observation_norm
        assert (norm.mean[~es.policy.layout.measured] == 0).all()
        assert (norm.mean[es.policy.layout.measured] != 0).all()


def test_an_observation_of_another_shape_is_refused():
    policy = Policy(nn.Linear(3, 2), BOX3, Discrete(2))
    with pytest.raises(ValueError, match=r"`observation` must have shape \(3,\)"):
        policy.act(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"`observation_space` must be a Box.*Dict or Tuple of these, got Text"):
        Layout(Dict(a=gym.spaces.Text(3)))


@pytest.mark.parametrize(
    ("space", "good", "bad", "message"),
    [
        (Discrete(3), 2, -1, r"`observation` must be in Discrete\(3\), got -1"),
        (Discrete(3, start=2), 4, 1, r"must be in Discrete\(3, start=2\), got 1"),
        (MultiDiscrete([3, 3]), [2, 0], [3, 0], r"must be in MultiDiscrete\(\[3 3\]\), got \[3 0\]"),
        (Dict(gear=Discrete(2), arm=Box(-1, 1, (1,))), {"gear": 1, "arm": [0.0]}, {"gear": -1, "arm": [0.0]},
         r"`observation\['gear'\]` must be in Discrete\(2\), got -1"),
    ],
)  # fmt: skip
def test_a_choice_that_there_is_not_is_refused(space, good, bad, message):
    def whole(observation):
        return np.array(observation) if isinstance(observation, list) else observation

    assert Layout(space).row(whole(good)).sum() in (1, 2)
    with pytest.raises(ValueError, match=message):
        Layout(space).row(whole(bad))
