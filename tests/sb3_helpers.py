"""Models and environments that the tests of `torch_es.sb3` share."""

import copy
import threading
from functools import partial

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from helpers import Stepper
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from torch_es.sb3 import ES

SMALL = {"num_pairs": 4, "num_workers": 0, "seed": 0, "sigma": 0.1}
RAW = np.random.default_rng(0).normal(size=(64, 4)) * [1, 2, 0.01, 2]
make = partial(ES, "MlpPolicy", "CartPole-v1", **SMALL)


class Own(gym.Env):
    """An environment of any spaces, without a spec; pays one a step."""

    def __init__(self, observation_space, action_space=None):
        self.observation_space = copy.deepcopy(observation_space)  # it is seeded
        self.action_space = action_space or Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(1000)))
        self.left = 4
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action if isinstance(self.action_space, Box) else int(action))
        self.left -= 1
        return self.observation_space.sample(), 1.0, self.left == 0, False, {}


class Locked(Stepper):
    """Cannot be copied."""

    def __init__(self, **options):
        super().__init__(**options)
        self.lock = threading.Lock()


gym.register("Locked-v0", Locked)


class Counting(BaseCallback):
    """Writes down what is called, and stops after the `last` generation."""

    def __init__(self, last=10**9):
        super().__init__()
        self.last, self.calls, self.steps = last, [], []

    def _on_training_start(self):
        self.calls.append("start")

    def _on_rollout_start(self):
        self.calls.append("[")

    def _on_step(self):
        self.calls.append(".")
        self.steps.append(self.num_timesteps)
        assert len(self.locals["infos"]) == self.locals["dones"].sum() == 8
        return len(self.steps) < self.last

    def _on_rollout_end(self):
        self.calls.append("]")

    def _on_training_end(self):
        self.calls.append("end")


def trained_ppo(env, **options):
    return PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu", **options).learn(64)


def normalized(venv, **options):
    return VecNormalize(venv, norm_reward=False, **options)
