"""The environments that ES and the baselines play alike: an action repeated, or a reward that comes at the end."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym

from torch_es.envs import EnvFactory, env_factory, repeated


class DelayedReward(gym.Wrapper[Any, Any, Any, Any]):
    """Pays the rewards of an episode in its last step, and nothing before."""

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self.owed = 0.0
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and keep the reward back unless the episode ends."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.owed += float(reward)
        return observation, self.owed if terminated or truncated else 0.0, bool(terminated), bool(truncated), info


def played(env_id: str, repeat: int = 1, delayed: bool = False) -> EnvFactory:
    """Return a function that makes the environment of a job."""
    factory = repeated(env_factory(env_id), repeat)
    return partial(_delayed, factory) if delayed else factory


def _delayed(factory: EnvFactory) -> gym.Env[Any, Any]:
    return DelayedReward(factory())
