"""From a network's output to an action of the space; the same code for arrays and tensors."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch

Output = Any  # numpy array or torch tensor, (..., size)


class Head(Protocol):
    """Turns outputs `(..., size)` into actions."""

    size: int

    def __call__(self, output: Output) -> Output:
        """Return actions."""
        ...


class BoxHead:
    """The output cut to the bounds of a Box.

    Example:
        >>> BoxHead(gym.spaces.Box(-1, 1, (2,)))(np.array([0.5, 3.0], np.float32))
        array([0.5, 1. ], dtype=float32)
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        self.size = int(np.prod(space.shape))
        self.shape = space.shape
        # bounds in the output's own precision, so that cutting never changes its type
        self.low, self.high = space.low.astype(np.float32), space.high.astype(np.float32)
        self.bounds = torch.from_numpy(self.low), torch.from_numpy(self.high)

    def __call__(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        output = output.reshape(*output.shape[:-1], *self.shape)
        if isinstance(output, torch.Tensor):
            return output.clip(*self.bounds)
        return np.minimum(np.maximum(output, self.low), self.high)  # half the cost of np.clip


class DiscreteHead:
    """The choice with the highest score.

    Example:
        >>> int(DiscreteHead(gym.spaces.Discrete(3))(np.array([0.1, 0.9, 0.2])))
        1
    """

    def __init__(self, space: gym.spaces.Discrete) -> None:
        self.size = int(space.n)
        self.start = int(space.start)

    def __call__(self, output: Output) -> Output:
        """Return whole numbers."""
        return output.argmax(-1) + self.start


def make_head(space: gym.Space[Any]) -> Head:
    """Return the head that fits `space`.

    Raises:
        ValueError: If there is none.

    Example:
        >>> make_head(gym.spaces.Discrete(4)).size
        4
    """
    if isinstance(space, gym.spaces.Box):
        return BoxHead(space)
    if isinstance(space, gym.spaces.Discrete):
        return DiscreteHead(space)
    raise ValueError(f"`action_space` must be Box or Discrete, got {space}; wrap the environment to offer one of them.")
