"""What the wrappers of a `VecEnv` do, done to a single environment, so that each worker can have it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FrameStackObservation, TransformObservation
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
from torch.utils._pytree import tree_map

from torch_es.envs import Env

Layer = Callable[[Env], Env]

_DONE_ELSEWHERE = (VecCheckNan, VecMonitor, VecNormalize)  # by `torch_es` itself


def single(wrapper: VecEnvWrapper) -> list[Layer]:
    """Return the wrappers of one environment that do what a wrapper of a `VecEnv` does.

    Raises:
        ValueError: If there are none.

    Example:
        >>> from stable_baselines3.common.env_util import make_vec_env
        >>> [layer] = single(VecFrameStack(make_vec_env("CartPole-v1"), 2))
        >>> layer(gym.make("CartPole-v1")).reset(seed=0)[0].round(2)
        array([ 0.  ,  0.  ,  0.  ,  0.  ,  0.01, -0.02, -0.05, -0.05],
              dtype=float32)
    """
    if type(wrapper) in _DONE_ELSEWHERE:
        return []
    if type(wrapper) is VecTransposeImage:
        return [] if wrapper.skip else [pictures_first]
    if type(wrapper) is VecFrameStack:
        stacked = wrapper.stacked_obs
        parts = getattr(stacked, "sub_stacked_observations", None)  # of a Dict
        axes = {name: part.repeat_axis for name, part in parts.items()} if parts else stacked.repeat_axis
        return [partial(_stacked, depth=stacked.n_stack, axes=axes, space=wrapper.observation_space)]
    if type(wrapper) is VecExtractDictObs:
        return [
            partial(TransformObservation, func=itemgetter(wrapper.key), observation_space=wrapper.observation_space)
        ]
    raise ValueError(
        f"`env` is wrapped in {type(wrapper).__name__}, which works on a VecEnv as a whole, while each worker has "
        "environments of its own; use a wrapper of the environment, such as Gymnasium's, or give an id, or a function "
        "that makes one environment, instead."
    )


def _stacked(env: Env, depth: int, axes: Any, space: gym.Space[Any]) -> Env:
    frames = FrameStackObservation(env, depth, padding_type="zero")
    frames.padding_value = tree_map(np.zeros_like, frames.padding_value)  # even where the space holds no zero
    return TransformObservation(frames, partial(_joined, axes=axes), space)


def _joined(frames: Any, axes: Any) -> Any:
    if isinstance(frames, dict):
        return {name: np.concatenate(frames[name], axes[name]) for name in frames}
    return np.concatenate(frames, axes)


def channels_last(space: gym.Space[Any]) -> bool:
    """Whether a space is a picture with its channels last, or a Dict that holds one."""
    if isinstance(space, gym.spaces.Dict):
        return any(map(channels_last, space.values()))
    return is_image_space(space) and not is_image_space_channels_first(space)  # type: ignore[arg-type]


def pictures_first(env: Env) -> Env:
    """Put the channels of pictures first, as `VecTransposeImage` does."""
    space = env.observation_space
    turned = _turned(space, space, VecTransposeImage.transpose_space)
    turn = partial(_turned, space, turn=VecTransposeImage.transpose_image)
    return TransformObservation(env, turn, gym.spaces.Dict(turned) if isinstance(turned, dict) else turned)


def _turned(space: gym.Space[Any], value: Any, turn: Callable[[Any], Any]) -> Any:
    """Return what stands for pictures with channels last turned, alone or in a Dict, and the rest as it is."""
    if isinstance(space, gym.spaces.Dict):
        return {name: _turned(part, value[name], turn) for name, part in space.spaces.items()}
    return turn(value) if channels_last(space) else value
