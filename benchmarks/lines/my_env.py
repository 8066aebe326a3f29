"""The environment that the four scripts train on; it is not counted."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Reach(gym.Env[Any, Any]):
    """A point on a plane is pushed to the origin within 50 steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = np.concatenate((self.np_random.uniform(-1, 1, 2), np.zeros(2))).astype(np.float32)
        self.left = 50
        return self.state, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        position, velocity = self.state[:2], 0.9 * self.state[2:] + 0.1 * np.asarray(action, np.float32)
        self.state = np.concatenate((position + 0.3 * velocity, velocity)).astype(np.float32)
        self.left -= 1
        return self.state, -float(np.square(self.state[:2]).sum()), False, self.left == 0, {}
