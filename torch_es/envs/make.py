"""Gymnasium environments: made with clear errors, and stepped without the wrappers that a rollout does not need."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import cloudpickle
import gymnasium as gym
from gymnasium.envs.registration import (
    EnvSpec,
    WrapperSpec,
    find_highest_version,
    get_env_id,
    load_env_creator,
    parse_env_id,
)
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from torch_es.checks import check_count, suggestion
from torch_es.envs.atari import Atari
from torch_es.errors import MissingExtraError

Env = gym.Env[Any, Any]
EnvFactory = Callable[[], Env]

_LEANER = {
    "gymnasium.envs.mujoco.ant_v5:AntEnv": "torch_es.envs.mujoco:Ant",
    "gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv": "torch_es.envs.mujoco:HalfCheetah",
    "gymnasium.envs.mujoco.hopper_v5:HopperEnv": "torch_es.envs.mujoco:Hopper",
    "gymnasium.envs.mujoco.humanoid_v5:HumanoidEnv": "torch_es.envs.mujoco:Humanoid",
    "gymnasium.envs.mujoco.walker2d_v5:Walker2dEnv": "torch_es.envs.mujoco:Walker2d",
}


def env_factory(env: str | EnvSpec | EnvFactory, **kwargs: Any) -> EnvFactory:
    """Return a function that makes a new environment with each call, in this process or in another.

    An id is looked up here, so workers need not know what the user's script registered.

    Args:
        env: A Gymnasium id, a spec, or a function that makes a new environment with each call. An id ALE/... makes the
            game with the preprocessing of `torch_es.envs.Atari`.
        kwargs: Passed on to `gymnasium.make`, to `Atari`, or to the function.

    Raises:
        TypeError: If `env` is something else.
        ValueError: If the id is unknown.

    Example:
        >>> env_factory("CartPole-v1")().spec.id
        'CartPole-v1'
    """
    if isinstance(env, str):
        if env.startswith("ALE/"):
            return partial(Atari, env, **kwargs)
        env = _spec(env)
    if isinstance(env, EnvSpec):
        return partial(_make, _by_value(env), **kwargs)
    if not isinstance(env, type) and hasattr(env, "reset") and hasattr(env, "step"):
        raise TypeError(
            f"`env` must be an id or a function that makes a new environment at each call, got an environment, "
            f"{type(env).__name__}, but each worker needs its own: give its id, its class, or `lambda: gym.make(...)`."
        )
    if not callable(env):
        raise TypeError(f"`env` must be an environment id or a function that makes one, got {type(env).__name__}.")
    return partial(env, **kwargs) if kwargs else env


def _spec(env_id: str) -> EnvSpec:
    """Return the spec of an id, after importing the module that the id may name."""
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        namespace, base, version = parse_env_id(name)
        newest = find_highest_version(namespace, base) if version is None else version
        return gym.spec(get_env_id(namespace, base, newest))
    except (ImportError, TypeError) as error:  # a TypeError: its name is relative
        raise ValueError(f"`env` {env_id!r} names a module that cannot be imported: {error}.") from error
    except gym.error.Error as error:
        raise ValueError(
            f"`env` {env_id!r} is not registered.{suggestion(env_id, gym.registry)} An id from a package of its own "
            "names the module too: `module:id`."
        ) from error


def _by_value(spec: EnvSpec) -> EnvSpec:
    """Return the spec with the classes themselves that it names in the user's script, which workers do not import."""
    wrappers = tuple(_wrapper_by_value(each) for each in spec.additional_wrappers)
    spec = dataclasses.replace(spec, additional_wrappers=wrappers)
    if isinstance(spec.entry_point, str) and spec.entry_point.startswith("__main__:"):
        return dataclasses.replace(spec, entry_point=cast(Any, load_env_creator(spec.entry_point)))
    return spec


def _wrapper_by_value(spec: WrapperSpec) -> WrapperSpec:
    """Do the same for a wrapper, which Gymnasium knows by name alone; without arguments, it cannot be made again."""
    if spec.kwargs is None or not spec.entry_point.startswith("__main__:"):
        return spec
    by_value: dict[str, Any] = {"wrapper": load_env_creator(spec.entry_point), "arguments": spec.kwargs}
    return dataclasses.replace(spec, entry_point=f"{__name__}:_wrapped", kwargs=by_value)


def _wrapped(env: Env, wrapper: Callable[..., Env], arguments: dict[str, Any]) -> Env:
    return wrapper(env=env, **arguments)


def registered() -> dict[str, bytes]:
    """Return, by id, the pickled specs that are not Gymnasium's own; one that pickle refuses is left out.

    A worker that calls `gymnasium.make` itself would not know what the user's script or its imports registered.
    """
    found = {}
    for name, spec in gym.registry.items():
        if not str(spec.entry_point).startswith("gymnasium."):
            with contextlib.suppress(Exception):
                found[name] = cloudpickle.dumps(_by_value(spec))
    return found


def register(specs: dict[str, bytes]) -> None:
    """Register what `registered` returned, where it is not known yet."""
    for name in specs.keys() - gym.registry.keys():
        with contextlib.suppress(Exception):  # it needs a module that cannot be imported here
            gym.registry[name] = pickle.loads(specs[name])


def _make(spec: EnvSpec, **kwargs: Any) -> Env:
    if isinstance(spec.entry_point, str) and spec.entry_point in _LEANER:
        spec = dataclasses.replace(spec, entry_point=_LEANER[spec.entry_point])
    try:
        return gym.make(spec, disable_env_checker=True, **kwargs)
    except (ImportError, gym.error.Error) as error:
        for extra in ("box2d", "mujoco"):
            if isinstance(error, gym.error.DependencyNotInstalled) and extra in str(error).lower():
                raise MissingExtraError(extra, extra) from error
        raise ValueError(f"`env` {spec.id!r} cannot be made: {error}") from error


class ActionRepeat(gym.Wrapper[Any, Any, Any, Any]):
    """Takes each action several times; the reward is the sum.

    Args:
        env: The environment; its time limit counts its own steps.
        times: How often to repeat each action.

    Example:
        >>> env = ActionRepeat(gym.make("CartPole-v1"), 3)
        >>> _ = env.reset(seed=0)
        >>> env.step(0)[1]
        3.0
    """

    def __init__(self, env: Env, times: int) -> None:
        super().__init__(env)
        self.times = check_count("times", times)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step `times` times, or until the episode ends."""
        total = 0.0
        for _ in range(self.times):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, bool(terminated), bool(truncated), info


def repeated(factory: EnvFactory, times: int) -> EnvFactory:
    """Return a function that makes the same environments, with each action repeated `times` times.

    Example:
        >>> repeated(env_factory("CartPole-v1"), 2)()
        <ActionRepeat<TimeLimit<OrderEnforcing<CartPoleEnv<CartPole-v1>>>>>
    """
    times = check_count("times", times)
    return factory if times == 1 else partial(_repeated, factory, times)


def _repeated(factory: EnvFactory, times: int) -> Env:
    return ActionRepeat(factory(), times)


def frames_per_step(env: Env) -> int:
    """Return for how many steps of the simulator an action is repeated; on Atari, for how many frames.

    Example:
        >>> frames_per_step(ActionRepeat(env_factory("ALE/Pong-v5")(), 2))
        8
    """
    return repeats(env) * (env.unwrapped.frame_skip if isinstance(env.unwrapped, Atari) else 1)


def repeats(env: Env) -> int:
    """Return for how many steps of the environment an action is repeated.

    Example:
        >>> repeats(ActionRepeat(env_factory("ALE/Pong-v5")(), 2))
        2
    """
    times = 1
    while isinstance(env, gym.Wrapper):
        times *= env.times if isinstance(env, ActionRepeat) else 1
        env = env.env
    return times


def bare(env: Env) -> tuple[Env, int | None]:
    """Return the environment without the outer wrappers that only check or count, and the time limit that they set.

    A rollout counts steps itself, and these wrappers take 1-2 us a step, 4% of HalfCheetah's physics. Any other
    wrapper, and any subclass of these, changes what the environment does, so it stays with everything below it.

    Example:
        >>> bare(gym.make("CartPole-v1"))[1]
        500
    """
    limit: int | None = None
    while isinstance(env, gym.Wrapper) and type(env) in (TimeLimit, OrderEnforcing, PassiveEnvChecker):
        if isinstance(env, TimeLimit):
            own = env._max_episode_steps
            limit = own if limit is None else min(limit, own)
        env = env.env
    return env, limit
