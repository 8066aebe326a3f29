"""From what Stable-Baselines3 calls an environment to what workers can make for themselves."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
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
_MONITOR = f"{Monitor.__module__}:{Monitor.__name__}"  # as a spec names it


class Nowhere(gym.Env[Any, Any]):
    """Stands for the environment of a model that was loaded without one: it has the spaces, and cannot be played."""

    metadata = {"spaces_only": True}  # so that nobody tries to play it  # noqa: RUF012 - Gymnasium's

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Refuse."""
        raise ValueError("`env` must be given to `load`, or by `set_env`: the model was loaded without one.")


def playable(env: str | Env | VecEnv | EnvFactory) -> tuple[str | EnvFactory, Env | VecEnv]:
    """Return what workers make their environments with, and an environment that is made, for callbacks.

    Args:
        env: An id, an environment, a `VecEnv`, or a function that makes an environment. Of an environment, workers
            get what `gymnasium.make` makes of its spec, or copies if it has none. Of a `VecEnv`, they get its first
            environment, in wrappers that do to one environment what the wrappers of the `VecEnv` do to several.

    Raises:
        TypeError: If it is none of these.
        ValueError: If no more environments can be made of it, or those of a `VecEnv` differ.

    Example:
        >>> playable(Monitor(gym.make("CartPole-v1")))[0]
        'CartPole-v1'
    """
    source, layers = _of_vec_env(env) if isinstance(env, VecEnv) else (env, [])
    source = _of_env(source) if isinstance(source, gym.Env) else source
    factory = env_factory(source)
    made = _layered(factory, layers)
    vec = env if isinstance(env, VecEnv) else None
    decided = vec is not None and is_vecenv_wrapped(vec, VecTransposeImage)
    if not decided and channels_last((vec or made).observation_space):  # as SB3 decides by what it sees
        layers = [*layers, pictures_first]
        made = pictures_first(made)
    if layers:
        source = partial(_layered, factory, layers)
    if isinstance(env, (gym.Env, VecEnv)):
        made.close()
        return source, env
    return source, made


def _layered(factory: EnvFactory, layers: Sequence[Layer]) -> Env:
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
        _check_alike([made.spec for made in env.envs])
        return env.envs[0], layers
    return _of_process(env), layers


def _check_alike(specs: Sequence[Any]) -> None:
    """Refuse a `VecEnv` of several tasks, as far as their specs tell: workers would play the first alone."""
    told = []
    for spec in specs:
        kwargs = spec.kwargs if spec else {}
        plain = {name: value for name, value in kwargs.items() if isinstance(value, (str, int, float))}
        task = f"{spec.id if spec else None} with {plain}"
        told += [task] * (task not in told)
    if len(told) > 1:
        raise ValueError(
            f"`env` must hold environments that are alike, since workers play the first, got {' and '.join(told)}; "
            "give a function that makes one environment, which may draw its task whenever it is reset."
        )


def _of_process(env: VecEnv) -> str | EnvFactory:
    """Return what makes the first environment of another process again: its spec, or what pickle brings of it."""
    try:
        kind = env.get_attr("__class__", 0)[0]
        bare = not issubclass(kind, gym.Wrapper)
        specs = env.get_attr("spec")
        found = _of_spec(specs[0])
        if found is None and (kind is Monitor or bare):
            found = _of_env(env.get_attr("unwrapped" if bare else "env", 0)[0])
    except (AttributeError, EOFError, TypeError):  # a VecEnv of another library, or what pickle refuses
        found = None
    else:
        _check_alike(specs)
    if found is None:
        raise ValueError(f"`env` is a {type(env).__name__}, whose environments cannot be made again; {_HINT}")
    return found


def _of_env(env: Env) -> str | EnvFactory:
    """Return the id if that says everything, otherwise what makes the spec, otherwise copies."""
    while type(env) is Monitor:  # it counts and writes what is played in this process
        env = env.env
    return _of_spec(env.spec) or _copies(env)


def _of_spec(spec: Any) -> str | EnvFactory | None:
    """Return what makes the environment again, or None if the spec does not say enough."""
    if spec is None:
        return None
    spec = copy.deepcopy(spec)
    spec.additional_wrappers = tuple(w for w in spec.additional_wrappers if w.entry_point != _MONITOR)
    if not spec.additional_wrappers and _is_registered(spec):
        return str(spec.id)
    factory = env_factory(spec)
    try:
        factory().close()
    except (ValueError, TypeError, gym.error.Error):
        return None
    return factory


def _is_registered(spec: Any) -> bool:
    """Whether the id alone makes the same; of an Atari game's id, torch_es makes another environment."""
    known = gym.registry.get(spec.id)
    kwargs = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    if known is None or spec.id.startswith("ALE/"):
        return False
    same = (known.entry_point, known.max_episode_steps, known.kwargs)
    return (spec.entry_point, spec.max_episode_steps, kwargs) == same


def _copies(env: Env) -> EnvFactory:
    monitor: Any = env
    while type(monitor) is not Monitor and isinstance(monitor, gym.Wrapper):
        monitor = monitor.env
    try:
        # a Monitor's file has no copy; one of a class of its own may do more than count
        without = {id(monitor): copy.deepcopy(monitor.env)} if type(monitor) is Monitor else {}
        kept = copy.deepcopy(env, without)
    except Exception as error:
        raise ValueError(
            f"`env` {env} has no spec that makes more of it and cannot be copied ({error}); {_HINT}"
        ) from error
    return partial(copy.deepcopy, kept)
