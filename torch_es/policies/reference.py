"""The reference batch of virtual batch norm: observations of random play."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from torch_es.envs import Env, random_observations
from torch_es.spaces import Layout


def reference_batch(env: Env, seed: int) -> Tensor:
    """Return 128 observations of random play as rows `(128, size)`, for virtual batch norm.

    The number is that of uber-research/deep-neuroevolution, a re-implementation that published it.

    Raises:
        ValueError: If all of them are equal, so that there is no variance to normalise by.

    Example:
        >>> import gymnasium as gym
        >>> reference_batch(gym.make("CartPole-v1"), seed=0).shape
        torch.Size([128, 4])
    """
    layout = Layout(env.observation_space)
    rows = np.stack([layout.row(seen) for seen in random_observations(env, 128, seed)])
    if (rows == rows[0]).all():
        raise ValueError(
            "`env` gave 128 equal observations at random play, so virtual batch norm has no variance to normalise by; "
            "use a network without it."
        )
    return torch.from_numpy(rows)
