"""Every space goes through one contract: a random environment of that space accepts each action, and trains."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from helpers import boxed, by_task, evaluator, pairs
from torch import nn

from torch_es import ES
from torch_es.heads import make_action_noise, make_head, unbatched
from torch_es.lanes import make_lanes
from torch_es.lanes.matmul import MatmulLanes
from torch_es.lanes.modules import TracedLanes
from torch_es.nn.moments import Moments
from torch_es.policies import Policy
from torch_es.spaces import Layout
from torch_es.spaces.layout import concatenated

BOX3 = Box(-np.inf, np.inf, (3,))
WIDE = Box(np.array([[-1.0], [2.0]], np.float32), np.array([[1.0], [6.0]], np.float32))
# bounds that float32 arithmetic, or float32 itself, does not meet
_LOW, _WIDTH = np.random.default_rng(0).uniform(0.1, 3.0, (2, 60))
UNEVEN = Box((-_LOW).astype(np.float32), (_WIDTH - _LOW).astype(np.float32))
DOUBLE = Box(-_LOW, _WIDTH - _LOW, dtype=np.float64)
ACTIONS = {
    "clip": (WIDE, "clip", 2),
    "tanh": (WIDE, "tanh", 2),
    "gaussian": (WIDE, "gaussian", 4),
    "uniform": (WIDE, "uniform:3", 6),
    "custom": (WIDE, "custom:-1,0.5", 4),
    **{f"{kind} uneven": (UNEVEN, kind, size) for kind, size in (("clip", 60), ("tanh", 60), ("uniform:10", 600))},
    **{f"{kind} double": (DOUBLE, kind, size) for kind, size in (("clip", 60), ("tanh", 60), ("gaussian", 120))},
    **{f"{kind} half": (Box(-0.1, 0.7, (2,), np.float16), kind, size) for kind, size in (("clip", 2), ("tanh", 2))},
    **{f"{kind} bytes": (Box(3, 250, (2,), np.uint8), kind, size) for kind, size in (("clip", 2), ("uniform:3", 6))},
    "discrete": (Discrete(4, start=5), "clip", 4),
    "multidiscrete": (MultiDiscrete([2, 3, 2], start=[0, 4, 0]), "clip", 7),
    "multidiscrete square": (MultiDiscrete([[2, 3], [4, 2]]), "clip", 11),
    "multibinary": (MultiBinary((2, 3)), "clip", 6),
    "dict": (Dict(arm=WIDE, gear=Discrete(3), inner=Tuple([MultiBinary(2), Discrete(2)])), "uniform:3", 13),
    "tuple": (Tuple([Discrete(2), Box(-1, 1, (2,))]), "tanh", 4),
}
OBSERVATIONS = {
    "box": BOX3,
    "square": Box(-1, 1, (2, 3)),
    "picture": Box(0, 255, (4, 5), np.uint8),
    "discrete": Discrete(4, start=2),
    "multidiscrete": MultiDiscrete([2, 3]),
    "multibinary": MultiBinary(3),
    "dict": Dict(far=Box(0, 1000, (2,)), near=Box(-0.01, 0.01, (2, 2)), gear=Discrete(3)),
    "tuple": Tuple([Box(-1, 1, (2,)), Dict(a=MultiBinary(2), b=Box(0, 255, (3,), np.uint8))]),
}


class Random(gym.Env):
    """Random observations of its space; takes any action of the other, and refuses what is none of it."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = copy.deepcopy(observation_space), action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        reward = float(np.sum(gym.spaces.flatten(self.action_space, action))) + self.np_random.normal()
        return self.observation_space.sample(), reward, bool(self.np_random.random() < 0.1), False, {}


class Leafwise(nn.Module):
    """Takes whatever tree of tensors the space gives."""

    def __init__(self, space, outputs):
        super().__init__()
        self.linear = nn.Linear(Layout(space).size, outputs)

    def forward(self, observation):
        return self.linear(concatenated(observation))


@pytest.mark.parametrize("kind", ACTIONS)
def test_every_action_space_gets_actions_of_its_own(kind):
    space, box_head, size = ACTIONS[kind]
    head = make_head(space, box_head)
    assert head.size == size
    outputs = np.random.default_rng(0).normal(scale=2, size=(50, size)).astype(np.float32)
    outputs[-20:] *= 50  # to the bounds
    actions = unbatched(head(outputs), 50)
    assert all(space.contains(action) for action in actions)
    assert len({str(action) for action in actions}) > 1
    assert str(unbatched(head(outputs[7:8]), 1)[0]) == str(actions[7])
    tensors = head(torch.from_numpy(outputs))
    if not isinstance(space, (Dict, Tuple)):
        np.testing.assert_allclose(tensors.numpy(), actions, rtol=1e-5)
        assert tensors.numpy().dtype == actions.dtype
    noise = make_action_noise(space, head, "gaussian:0.5") if isinstance(space, Box) else None
    if noise is not None:
        draws = np.stack([noise.draw(np.random.default_rng(i)) for i in range(50)])
        assert all(space.contains(action) for action in noise(outputs, draws))
    with ES(nn.Linear(3, size), lambda: Random(BOX3, space), box_head=box_head, num_pairs=3, num_workers=0) as es:
        es.learn(200)
        assert space.contains(es.predict(np.zeros(3, np.float32))[0])


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_every_observation_space_reaches_the_network_in_its_form(kind):
    space = OBSERVATIONS[kind]
    policy = Policy(Leafwise(space, 2), space, Discrete(2))
    played = []
    for workers, lanes in ((0, 3), (0, 1), (2, 2)):
        running = evaluator(policy, lambda: Random(space, Discrete(2)), workers, lanes)
        frozen = running_snapshot(policy)
        played.append(by_task(running.evaluate(frozen, pairs(4))))
        running.close()
    assert played[0] == played[1] == played[2]
    with ES(Leafwise(space, 2), lambda: Random(space, Discrete(2)), num_pairs=3, num_workers=0) as es:
        es.learn(100)
        assert es.predict(space.sample())[0] in (0, 1)


def running_snapshot(policy):
    with ES(policy.network, fitness_fn=lambda _: 0.0, num_workers=0) as es:
        scale = policy.observation_norm.scale if policy.observation_norm else (None, None)
        return es.trainer.snapshot()._replace(mean=scale[0], std=scale[1])


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
    normalised = policy.layout.inputs(policy.normalized(torch.from_numpy(rows)))
    assert 0.9 < normalised["far"].std() < 1.1
    assert normalised["near"].std() < 0.1  # deviation 0.006, below the floor of 0.1
    assert set(normalised["gear"].unique().tolist()) == {0.0, 1.0}
    picture = OBSERVATIONS["picture"]
    assert Policy(nn.Sequential(nn.Flatten(), nn.Linear(20, 2)), picture, Discrete(2)).observation_norm is None


def test_statistics_of_what_is_not_measured_stay_zero_in_training():
    space = OBSERVATIONS["dict"]
    with ES(Leafwise(space, 2), lambda: Random(space, Discrete(2)), num_pairs=3, num_workers=0) as es:
        es.learn(200)
        norm = es.policy.observation_norm
        assert (norm.mean[~es.policy.layout.measured] == 0).all()
        assert (norm.mean[es.policy.layout.measured] != 0).all()


def test_lanes_for_rows_and_for_trees():
    assert isinstance(make_lanes(nn.Linear(3, 2), 2, boxed(3)), MatmulLanes)
    space = OBSERVATIONS["dict"]
    assert isinstance(make_lanes(Leafwise(space, 2), 2, Layout(space)), TracedLanes)


def test_an_observation_of_another_shape_is_refused():
    policy = Policy(nn.Linear(3, 2), BOX3, Discrete(2))
    with pytest.raises(ValueError, match=r"`observation` must have shape \(3,\)"):
        policy.act(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"`observation_space` must be a Box.*Dict or Tuple of these, got Text"):
        Layout(Dict(a=gym.spaces.Text(3)))
