"""Spaces of every kind, an environment and a network for each."""

import copy

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from torch import nn

from torch_es.nn import ObservationNorm
from torch_es.spaces import Layout
from torch_es.spaces.layout import concatenated

BOX1 = Box(-1, 1, (1,))
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
    "scalar": Box(-1, 1, ()),
    "words": Box(0, 65535, (2,), np.uint16),
    "mask": Box(0, 1, (3,), np.int8),
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
    """Normalises, then takes whatever tree of tensors the space gives."""

    def __init__(self, space, outputs):
        super().__init__()
        self.norm = ObservationNorm(space)
        self.linear = nn.Linear(Layout(space).size, outputs)

    def forward(self, observation):
        return self.linear(concatenated(self.norm(observation)))
