"""From what Stable-Baselines3 calls an environment to what workers can make for themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TransformObservation
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from torch_es.envs import Env, EnvFactory, env_factory

# what these do to an environment, torch_es does itself, or needs not be done
_KNOWN = (VecCheckNan, VecMonitor, VecNormalize, VecTransposeImage)
_HINT = "give an id, or a function that makes one environment, instead."


def playable(env: str | Env | VecEnv | EnvFactory) -> tuple[str | EnvFactory, Env | VecEnv]:
    """Return what workers make their environments by, and one that is made, for callbacks.

    Args:
        env: An id, an environment, a `VecEnv`, or a function that makes an environment. Of an environment, workers get
            what `gymnasium.make` gives for its spec, or copies where it has none; of a `VecEnv`, its first.

    Raises:
        ValueError: If no more can be made of it.

    Example:
        >>> playable(Monitor(gym.make("CartPole-v1")))[0]
        'CartPole-v1'
    """
    source = _of_vec_env(env) if isinstance(env, VecEnv) else env
    source = _of_env(source) if isinstance(source, gym.Env) else source
    factory = env_factory(source)
    made = factory()
    if _channels_last(made.observation_space):
        made.close()
        source = partial(_channels_first, factory)
        made = source()
    if isinstance(env, (gym.Env, VecEnv)):
        made.close()
        return source, env
    return source, made


def monitors(env: VecEnv) -> list[Monitor[Any, Any]]:
    """Return the Monitor of each of a `VecEnv`'s environments that lives in this process and has one."""
    base = _unwrapped(env)
    found = [unwrap_wrapper(each, Monitor) for each in base.envs] if isinstance(base, DummyVecEnv) else []
    return [monitor for monitor in found if isinstance(monitor, Monitor)]


def _unwrapped(env: VecEnv) -> VecEnv:
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env


def _of_vec_env(env: VecEnv) -> str | Env | EnvFactory:
    layer = env
    while isinstance(layer, VecEnvWrapper):
        if not isinstance(layer, _KNOWN):
            raise ValueError(
                f"`env` is wrapped in {type(layer).__name__}, which works on a VecEnv as a whole, while each worker "
                f"has environments of its own; use a wrapper of the environment, such as Gymnasium's, or {_HINT}"
            )
        layer = layer.venv
    if isinstance(layer, DummyVecEnv):
        return layer.envs[0]
    return _of_spec(layer.get_attr("spec")[0]) or _refuse(layer)


def _of_env(env: Env) -> str | EnvFactory:
    """An id where that says all, else the spec, else copies."""
    inner = env
    while isinstance(inner, Monitor):  # counts and writes what is played in this process
        inner = inner.env
    return _of_spec(inner.spec) or _copies(inner)


def _of_spec(spec: Any) -> str | EnvFactory | None:
    """Return what makes the environment again, or None if the spec does not say enough."""
    if spec is None:
        return None
    spec = copy.deepcopy(spec)
    spec.additional_wrappers = tuple(w for w in spec.additional_wrappers if w.name != Monitor.__name__)
    if not spec.additional_wrappers and _is_registered(spec):
        return str(spec.id)
    try:
        gym.make(spec).close()
    except (ValueError, TypeError, gym.error.Error):
        return None
    return partial(gym.make, spec)


def _is_registered(spec: Any) -> bool:
    """Whether the id alone makes the same; of the ids of Atari games, torch_es makes others."""
    known = gym.registry.get(spec.id)
    kwargs = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    if known is None or spec.id.startswith("ALE/"):
        return False
    same = (known.entry_point, known.max_episode_steps, known.kwargs)
    return (spec.entry_point, spec.max_episode_steps, kwargs) == same


def _copies(env: Env) -> EnvFactory:
    try:
        kept = copy.deepcopy(env)
    except Exception as error:
        raise ValueError(
            f"`env` {env} has no spec that makes more of it and cannot be copied ({error}); {_HINT}"
        ) from error
    return partial(copy.deepcopy, kept)


def _refuse(env: VecEnv) -> EnvFactory:
    raise ValueError(
        f"`env` is a {type(env).__name__} whose environments have no spec to make more of them by; {_HINT}"
    )


def _channels_last(space: gym.Space[Any]) -> bool:
    return is_image_space(space) and not is_image_space_channels_first(space)  # type: ignore[arg-type]


def _channels_first(factory: Callable[[], Env]) -> Env:
    """Make an environment whose pictures have their channels first, as `VecTransposeImage` gives them."""
    env = factory()
    space = VecTransposeImage.transpose_space(env.observation_space)  # type: ignore[arg-type]
    return TransformObservation(env, VecTransposeImage.transpose_image, space)
