"""Check that a factory makes environments that keep to their spaces, before any worker starts."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from torch_es.envs.make import Env, EnvFactory
from torch_es.spaces.layout import Layout

_log = logging.getLogger(__name__)

_PARTS = {
    "reset": ("observation", "info"),
    "step": ("observation", "reward", "terminated", "truncated", "info"),
}

MASKS = (
    "action masks are not used; put the mask into the observation, a Dict, and give torch_es.ES a network that "
    "sets the scores of masked actions to -inf."
)


def probed(factory: EnvFactory) -> Env:
    """Return a new environment, after one reset and one step whose results were compared with its spaces.

    Raises:
        TypeError: If the factory makes something other than an environment.
        ValueError: If it returns the same environment twice, or `reset` or `step` do not return what the spaces say.

    Example:
        >>> probed(lambda: gym.make("CartPole-v1")).action_space
        Discrete(2)
    """
    first = _made(factory)
    first.close()
    env = _made(factory)
    if env.unwrapped is first.unwrapped:
        raise ValueError(
            f"`env` returned the same {_name(env)} twice, but several episodes are played side by side: make a new "
            "environment at each call, as in `lambda: gym.make(...)`, or give the id or the class."
        )
    if env.metadata.get("spaces_only"):  # it stands for one that is given later
        return env
    try:
        _check_play(env)
    except BaseException:
        env.close()
        raise
    return env


def _made(factory: EnvFactory) -> Env:
    env: object = factory()
    if isinstance(env, gym.Env):
        return env
    if env is None:
        raise TypeError("`env` must make a gymnasium.Env, got None: does the function return what it makes?")
    way = "give a function that makes one of them" if hasattr(env, "num_envs") else "wrap it in one"
    raise TypeError(f"`env` must make a gymnasium.Env, got {type(env).__module__}.{type(env).__qualname__}; {way}.")


def _check_play(env: Env) -> None:
    Layout(env.observation_space)  # a space of another kind is not the fault of what `reset` returns
    if env.has_wrapper_attr("action_masks"):  # MaskablePPO's
        _log.warning("`env` has `action_masks`, but %s", MASKS)
    begun: Any = env.reset(seed=0)
    _check_answer(env, "reset", begun)
    env.action_space.seed(0)
    check_step(env, env.step(env.action_space.sample()))


def check_step(env: Env, answer: Any) -> None:
    """Compare what `step` returned with what Gymnasium asks for, and its observation with the space.

    Raises:
        ValueError: If they differ; it names the environment, what came and what was expected.

    Example:
        >>> check_step(gym.make("CartPole-v1"), (np.zeros(4), None, False, False, {}))
        Traceback (most recent call last):
        ValueError: CartPoleEnv.step must return a number as reward, got None.
    """
    _check_answer(env, "step", answer)
    kinds = {"reward": "number", "terminated": "bool", "truncated": "bool"}
    for (name, kind), value in zip(kinds.items(), answer[1:4], strict=True):
        if np.asarray(value).dtype.kind not in "biuf" or np.shape(value):
            raise ValueError(f"{_name(env)}.step must return a {kind} as {name}, got {_described(value)}.")


def check_form(env: Env, method: str, answer: Any) -> None:
    """Check that `reset` or `step` returned a tuple of as many parts as Gymnasium asks for.

    Raises:
        ValueError: If it did not.
    """
    parts = _PARTS[method]
    whole = isinstance(answer, tuple) and len(answer) == len(parts)
    if not whole or (method == "reset" and not isinstance(answer[1], dict)):
        raise ValueError(f"{_name(env)}.{method} must return ({', '.join(parts)}), got {_described(answer)}.")


def _check_answer(env: Env, method: str, answer: Any) -> None:
    check_form(env, method, answer)
    check_observation(env, env.observation_space, answer[0], method)
    _check_values(env, answer[0], method)


def check_observation(env: Env, space: gym.Space[Any], observation: Any, method: str = "reset") -> None:
    """Compare the form of an observation, but not its values, with its space.

    Raises:
        ValueError: If they differ; it names the environment, the method, what came and what was expected.

    Example:
        >>> check_observation(gym.make("FrozenLake-v1"), gym.spaces.Discrete(16), np.array([3]))
        Traceback (most recent call last):
        ValueError: FrozenLakeEnv.reset must return an observation of Discrete(16), got [3] of shape (1,), int64.
    """
    for path, leaf, value in _leaves(space, observation):
        if _shape(value) != leaf.shape:
            raise ValueError(_expected(env, method, path, leaf, value))


def _check_values(env: Env, observation: Any, method: str) -> None:
    """Compare the values too: they must be numbers, and choices that exist. Leaving a Box is only a warning."""
    for path, space, value in _leaves(env.observation_space, observation):
        array, box = np.asarray(value), isinstance(space, gym.spaces.Box)
        within = array.dtype.kind in ("biuf" if box else "biu") and (box or space.contains(array.astype(space.dtype)))
        if not within:
            raise ValueError(_expected(env, method, path, space, value))
        if isinstance(space, gym.spaces.Box) and ((array < space.low) | (array > space.high)).any():
            _log.warning("%s It lies outside.", _expected(env, method, path, space, value))


def _leaves(space: gym.Space[Any], value: Any, path: str = "") -> Iterator[tuple[str, gym.Space[Any], Any]]:
    """Yield path, space and value of each leaf; a Dict or Tuple of another form is yielded whole."""
    if isinstance(space, gym.spaces.Dict) and isinstance(value, Mapping) and space.spaces.keys() <= value.keys():
        for key, part in space.spaces.items():
            yield from _leaves(part, value[key], f"{path}[{key!r}]")
    elif isinstance(space, gym.spaces.Tuple) and isinstance(value, tuple) and len(value) == len(space.spaces):
        for number, part in enumerate(space.spaces):
            yield from _leaves(part, value[number], f"{path}[{number}]")
    else:
        yield path, space, value


def _shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of numbers, or None if there are others, such as None, among them."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    return array.shape if array.dtype.kind in "biuf" else None


def _expected(env: Env, method: str, path: str, space: gym.Space[Any], value: Any) -> str:
    of = f"observation{path} of {space}" if path else f"observation of {space}"
    return f"{_name(env)}.{method} must return an {of}, got {_described(value)}."


def _name(env: Env) -> str:
    return type(env.unwrapped).__name__


def _described(value: Any) -> str:
    """Describe in a few words a value that was not expected."""
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)} ({', '.join(type(part).__name__ for part in value[:6])})"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(str, value))}"
    if isinstance(value, np.ndarray):
        return f"{value.tolist() if value.size <= 4 else 'an array'} of shape {value.shape}, {value.dtype}"
    return "None" if value is None else f"{str(value)[:80]} of type {type(value).__name__}"


def random_observations(env: Env, count: int, seed: int) -> list[Any]:
    """Play random actions and return `count` observations, every eighth, so that they are not all alike.

    The seed is that of the environment, which is left in the middle of an episode, and of the actions.

    Example:
        >>> len(random_observations(gym.make("CartPole-v1"), 5, seed=0))
        5
    """
    env.action_space.seed(seed)
    kept = [copy.deepcopy(env.reset(seed=seed)[0])]  # at once: the next step may write over it
    over, step = False, 0
    while len(kept) < count:
        if over:
            observation, over = env.reset()[0], False
        else:
            observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
            over = terminated or truncated
        step += 1
        if step % 8 == 0:
            kept.append(copy.deepcopy(observation))
    return kept
