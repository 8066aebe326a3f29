"""Gymnasium environments: made with clear errors, and stepped without wrappers that a rollout does not need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from torch_es.checks import check_count, suggestion
from torch_es.envs.atari import Atari
from torch_es.errors import MissingExtraError

Env = gym.Env[Any, Any]
EnvFactory = Callable[[], Env]

_LEANER = {
    f"gymnasium.envs.mujoco.{task}_v5:{name}Env": f"torch_es.envs.mujoco:{name}"
    for task, name in (
        ("half_cheetah", "HalfCheetah"),
        ("hopper", "Hopper"),
    )
}


class BareEnv(NamedTuple):
    """An environment to step directly, and the limit that its `TimeLimit` wrapper would have set."""

    env: Env
    max_steps: int | None


def env_factory(env: str | EnvFactory, **kwargs: Any) -> EnvFactory:
    """Return a function that makes the environment, having made sure that it can be made.

    Args:
        env: A Gymnasium id, or a function without arguments that makes an environment. An id ALE/... makes the game
            with the preprocessing of `torch_es.envs.atari.Atari`.
        kwargs: For `gymnasium.make`, or for `Atari`.

    Raises:
        TypeError: If `env` is neither.
        ValueError: If the id is unknown.
        MissingExtraError: If the environment needs a package that is not installed.

    Example:
        >>> env_factory("CartPole-v1")().spec.id
        'CartPole-v1'
    """
    if callable(env):
        return env
    if isinstance(env, gym.Env):
        raise TypeError("`env` must be an id or a function that makes environments, since each worker needs its own.")
    if not isinstance(env, str):
        raise TypeError(f"`env` must be an environment id or a function that makes one, got {type(env).__name__}.")
    return partial(_make, env, kwargs)


def _make(env_id: str, kwargs: dict[str, Any]) -> Env:
    if env_id.startswith("ALE/"):
        return Atari(env_id, **kwargs)
    try:
        spec = gym.registry.get(env_id)
        if spec is not None and spec.entry_point in _LEANER:
            spec = dataclasses.replace(spec, entry_point=_LEANER[spec.entry_point])
        return gym.make(spec or env_id, disable_env_checker=True, **kwargs)
    except gym.error.DependencyNotInstalled as error:
        extra = "box2d" if "box2d" in str(error).lower() else "mujoco"
        raise MissingExtraError(extra, extra) from error
    except ModuleNotFoundError as error:
        if ":" not in env_id:
            raise
        raise ValueError(f"`env` {env_id!r} names a module that cannot be imported: {error}") from error
    except gym.error.Error as error:
        raise ValueError(f"`env` {env_id!r} is not registered.{suggestion(env_id, gym.registry)}") from error


class ActionRepeat(gym.Wrapper[Any, Any, Any, Any]):
    """Takes each action several times; the reward is the sum.

    Args:
        env: The environment, whose own time limit goes on counting its own steps.
        times: How often.

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
        """Step up to `times` times, fewer if the episode ends."""
        total = 0.0
        for _ in range(self.times):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, bool(terminated), bool(truncated), info


def repeated(factory: EnvFactory, times: int) -> EnvFactory:
    """Return a function that makes the same environments with each action taken `times` times.

    Example:
        >>> repeated(env_factory("CartPole-v1"), 2)()
        <ActionRepeat<TimeLimit<OrderEnforcing<CartPoleEnv<CartPole-v1>>>>>
    """
    times = check_count("times", times)
    return factory if times == 1 else partial(_repeated, factory, times)


def _repeated(factory: EnvFactory, times: int) -> Env:
    return ActionRepeat(factory(), times)


def frames_per_step(env: Env) -> int:
    """Return for how many steps of the simulator itself an action holds; of Atari, frames of the console.

    Example:
        >>> frames_per_step(ActionRepeat(env_factory("ALE/Pong-v5")(), 2))
        8
    """
    frames = 1
    while isinstance(env, gym.Wrapper):
        frames *= env.times if isinstance(env, ActionRepeat) else 1
        env = env.env
    return frames * (env.frame_skip if isinstance(env, Atari) else 1)


def random_observations(env: Env, count: int, seed: int, every: int = 8) -> list[Any]:
    """Play at random and return `count` observations, every eighth of those seen, so that they are not all alike.

    Args:
        env: Left at some point of an episode.
        count: How many to keep.
        seed: Of the environment and of the actions.
        every: Steps from one that is kept to the next.

    Example:
        >>> len(random_observations(gym.make("CartPole-v1"), 5, seed=0))
        5
    """
    env.action_space.seed(seed)
    kept = [env.reset(seed=seed)[0]]
    over, step = False, 0
    while len(kept) < count:
        if over:
            observation, over = env.reset()[0], False
        else:
            observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
            over = terminated or truncated
        step += 1
        if step % every == 0:
            kept.append(observation)
    return kept


def bare(env: Env) -> BareEnv:
    """Take off the outer wrappers that only check or count, and say what limit they set.

    A rollout counts steps itself, and 1-2 us of wrappers a step are 4% of HalfCheetah's physics. Any other wrapper
    changes what the environment does, so it and all below it stay.

    Example:
        >>> bare(gym.make("CartPole-v1")).max_steps
        500
    """
    limit: int | None = None
    while isinstance(env, (TimeLimit, OrderEnforcing, PassiveEnvChecker)):
        if isinstance(env, TimeLimit):
            own = env._max_episode_steps
            limit = own if limit is None else min(limit, own)
        env = env.env
    return BareEnv(env, limit)
