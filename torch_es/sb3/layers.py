"""What the wrappers of a `VecEnv` do, done to a single environment, so that each worker can have it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TransformObservation
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from torch_es.envs import Env

Layer = Callable[[Env], Env]

_DONE_ELSEWHERE = (VecCheckNan, VecMonitor, VecNormalize)  # by `torch_es` itself


def single(wrapper: VecEnvWrapper) -> list[Layer]:
    """Return the wrappers of one environment that do what a wrapper of a `VecEnv` does.

    Raises:
        ValueError: If there are none.

    Example:
        >>> from stable_baselines3.common.env_util import make_vec_env
        >>> [layer] = single(VecFrameStack(make_vec_env("CartPole-v1"), 3))
        >>> layer(gym.make("CartPole-v1")).reset(seed=0)[0].shape
        (12,)
    """
    if type(wrapper) in _DONE_ELSEWHERE:
        return []
    if type(wrapper) is VecTransposeImage:
        return [] if wrapper.skip else [pictures_first]
    if type(wrapper) is VecFrameStack:
        return [partial(FrameStack, n_stack=_depth(wrapper.stacked_obs), channels_order=_order(wrapper.stacked_obs))]
    if type(wrapper) is VecExtractDictObs:
        return [partial(_extracted, key=wrapper.key)]
    raise ValueError(
        f"`env` is wrapped in {type(wrapper).__name__}, which works on a VecEnv as a whole, while each worker has "
        "environments of its own; use a wrapper of the environment, such as Gymnasium's, or give an id, or a function "
        "that makes one environment, instead."
    )


class FrameStack(gym.Wrapper[Any, Any, Any, Any]):
    """The last observations as one, as `VecFrameStack` gives them: zeros before the first.

    Args:
        env: Of a Box, or of a Dict of Boxes.
        n_stack: How many observations.
        channels_order: Whether to stack on the "first" or the "last" axis; of a Dict, for each key.

    Example:
        >>> FrameStack(gym.make("CartPole-v1"), 2, "last").reset(seed=0)[0].round(2)
        array([ 0.  ,  0.  ,  0.  ,  0.  ,  0.01, -0.02, -0.05, -0.05],
              dtype=float32)
    """

    def __init__(self, env: Env, n_stack: int, channels_order: Any) -> None:
        super().__init__(env)
        self._stacked: StackedObservations[Any] = StackedObservations(1, n_stack, env.observation_space, channels_order)  # type: ignore[arg-type]
        self.observation_space = self._stacked.stacked_observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin with this observation alone."""
        observation, info = self.env.reset(seed=seed, options=options)
        return _first(self._stacked.reset(_batched(observation))), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Push the oldest observation out."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        stacked, _ = self._stacked.update(_batched(observation), np.zeros(1, bool), [{}])
        return _first(stacked), reward, terminated, truncated, info


def channels_last(space: gym.Space[Any]) -> bool:
    """Whether a space is a picture with its channels last, or a Dict that holds one."""
    if isinstance(space, gym.spaces.Dict):
        return any(map(channels_last, space.values()))
    return is_image_space(space) and not is_image_space_channels_first(space)  # type: ignore[arg-type]


def pictures_first(env: Env) -> Env:
    """Put the channels of pictures first, as `VecTransposeImage` does."""
    return TransformObservation(
        env, partial(_pictures_first, env.observation_space), _transposed(env.observation_space)
    )


def _transposed(space: Any) -> gym.Space[Any]:
    if isinstance(space, gym.spaces.Dict):
        return gym.spaces.Dict({name: _transposed(leaf) for name, leaf in space.items()})
    return VecTransposeImage.transpose_space(space) if channels_last(space) else space


def _pictures_first(space: gym.Space[Any], observation: Any) -> Any:
    if isinstance(space, gym.spaces.Dict):
        return {name: _pictures_first(leaf, observation[name]) for name, leaf in space.items()}
    return VecTransposeImage.transpose_image(observation) if channels_last(space) else observation


def _extracted(env: Env, key: str) -> Env:
    return TransformObservation(env, lambda observation: observation[key], env.observation_space[key])  # type: ignore[index]


def _depth(stacked: StackedObservations[Any]) -> int:
    return stacked.n_stack


def _order(stacked: StackedObservations[Any]) -> Any:
    if isinstance(stacked.observation_space, gym.spaces.Dict):
        return {name: _order(part) for name, part in stacked.sub_stacked_observations.items()}
    return "first" if stacked.channels_first else "last"


def _batched(observation: Any) -> Any:
    return (
        {k: v[None] for k, v in observation.items()} if isinstance(observation, dict) else np.asarray(observation)[None]
    )


def _first(batch: Any) -> Any:
    return {k: v[0] for k, v in batch.items()} if isinstance(batch, dict) else batch[0]
