"""From what Stable-Baselines3 calls an environment to what workers can make for themselves."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from torch_es.envs import Env, EnvFactory, env_factory
from torch_es.sb3.layers import Layer, channels_last, pictures_first, single

_HINT = "give an id, or a function that makes one environment, instead."


class Nowhere(gym.Env[Any, Any]):
    """Stands for the environment of a model that was loaded without one: it has the spaces, and cannot be played.

    Args:
        observation_space: Of the model.
        action_space: Of the model.

    Example:
        >>> Nowhere(gym.spaces.Discrete(2), gym.spaces.Discrete(3)).action_space
        Discrete(3)
    """

    metadata = {"spaces_only": True}  # so that it is not tried  # noqa: RUF012 - Gymnasium's

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Refuse.

        Raises:
            ValueError: Always.
        """
        raise ValueError("`env` must be given to `load`, or by `set_env`: the model was loaded without one.")


def nowhere(env: Env | VecEnv) -> bool:
    """Whether an environment only stands for one that a model was loaded without."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    inner = env.envs[0] if isinstance(env, DummyVecEnv) else env
    return isinstance(inner, gym.Env) and isinstance(inner.unwrapped, Nowhere)


def playable(env: str | Env | VecEnv | EnvFactory) -> tuple[str | EnvFactory, Env | VecEnv]:
    """Return what workers make their environments by, and one that is made, for callbacks.

    Args:
        env: An id, an environment, a `VecEnv`, or a function that makes an environment. From an environment, workers
            get what `gymnasium.make` gives for its spec, or copies if it has none. From a `VecEnv`, they get its first
            environment, in wrappers that do to one environment what the wrappers of the `VecEnv` do to several.

    Raises:
        ValueError: If no more can be made of it.

    Example:
        >>> playable(Monitor(gym.make("CartPole-v1")))[0]
        'CartPole-v1'
    """
    source, layers = _of_vec_env(env) if isinstance(env, VecEnv) else (env, [])
    source = _of_env(source) if isinstance(source, gym.Env) else source
    factory = env_factory(source)
    made = wrapped(factory, layers)
    told = isinstance(env, VecEnv) and is_vecenv_wrapped(env, VecTransposeImage)  # where channels are
    if not told and channels_last(made.observation_space):
        layers = [*layers, pictures_first]
        made = pictures_first(made)
    if layers:
        source = partial(wrapped, factory, layers)
    if isinstance(env, (gym.Env, VecEnv)):
        made.close()
        return source, env
    return source, made


def wrapped(factory: EnvFactory, layers: Sequence[Layer]) -> Env:
    """Make an environment and wrap it, the innermost layer first."""
    env = factory()
    if not isinstance(env, gym.Env):
        raise TypeError(f"`env` must make one gymnasium.Env, got {type(env).__name__}.")
    for layer in layers:
        env = layer(env)
    return env


def _of_vec_env(env: VecEnv) -> tuple[str | Env | EnvFactory, list[Layer]]:
    layers: list[Layer] = []
    while isinstance(env, VecEnvWrapper):
        if layers and isinstance(env, VecNormalize):
            raise ValueError("`env` is a VecNormalize inside other wrappers; put it outside: VecNormalize(...(env)).")
        layers = [*single(env), *layers]
        env = env.venv
    if isinstance(env, DummyVecEnv):
        return env.envs[0], layers
    return _of_process(env), layers


def _of_process(env: VecEnv) -> str | EnvFactory:
    """What makes the first environment again that lives in another process: its spec, or what pickle brings of it."""
    try:
        kind = env.get_attr("__class__", 0)[0]
        bare = not issubclass(kind, gym.Wrapper)
        found = _of_spec(env.get_attr("spec", 0)[0])
        if found is None and (kind is Monitor or bare):
            found = _of_env(env.get_attr("unwrapped" if bare else "env", 0)[0])
    except (AttributeError, EOFError, TypeError):  # a VecEnv of another library, or what pickle refuses
        found = None
    if found is None:
        raise ValueError(f"`env` is a {type(env).__name__}, whose environments cannot be made again; {_HINT}")
    return found


def _of_env(env: Env) -> str | EnvFactory:
    """An id if that says everything, otherwise the spec, otherwise copies."""
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
    factory = env_factory(spec)
    try:
        factory().close()
    except (ValueError, TypeError, gym.error.Error):
        return None
    return factory


def _is_registered(spec: Any) -> bool:
    """Whether the id alone makes the same; of the ids of Atari games, torch_es makes others."""
    known = gym.registry.get(spec.id)
    kwargs = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    if known is None or spec.id.startswith("ALE/"):
        return False
    same = (known.entry_point, known.max_episode_steps, known.kwargs)
    return (spec.entry_point, spec.max_episode_steps, kwargs) == same


def _copies(env: Env) -> EnvFactory:
    monitor = unwrap_wrapper(env, Monitor)
    try:
        without = {} if monitor is None else {id(monitor): copy.deepcopy(monitor.env)}  # its file cannot be copied
        kept = copy.deepcopy(env, without)
    except Exception as error:
        raise ValueError(
            f"`env` {env} has no spec that makes more of it and cannot be copied ({error}); {_HINT}"
        ) from error
    return partial(copy.deepcopy, kept)
