"""Spaces as plain data and back, so that a policy can be rebuilt without its environment and without running code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from torch_es.checks import check_choice

Plain = dict[str, Any]


def plain_space(space: gym.Space[Any]) -> Plain:
    """Return a space as data that JSON can hold.

    Raises:
        ValueError: If policies do not take this kind of space.

    Example:
        >>> plain_space(gym.spaces.Box(0, np.inf, (2,)))
        {'kind': 'Box', 'low': 0.0, 'high': 'inf', 'shape': [2], 'dtype': 'float32'}
    """
    if isinstance(space, gym.spaces.Box):
        bounds = {"low": _numbers(space.low), "high": _numbers(space.high)}
        return {"kind": "Box", **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.MultiDiscrete):
        counts = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"kind": "MultiDiscrete", **counts, "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": space.shape[0] if len(space.shape) == 1 else list(space.shape)}
    if isinstance(space, gym.spaces.Dict):
        # pairs: their order is that of an observation's row, and who writes JSON may sort keys
        return {"kind": "Dict", "parts": [[name, plain_space(part)] for name, part in space.spaces.items()]}
    if isinstance(space, gym.spaces.Tuple):
        return {"kind": "Tuple", "parts": [plain_space(part) for part in space.spaces]}
    raise ValueError(f"A space must be a {', '.join(_MAKERS)} to be written down, got {space}.")


def space_of(plain: Mapping[str, Any]) -> gym.Space[Any]:
    """Return the space that `plain_space` described; it makes spaces and nothing else.

    Raises:
        ValueError: If `plain` describes no space.

    Example:
        >>> space_of({"kind": "Discrete", "n": 3, "start": 1, "dtype": "int64"})
        Discrete(3, start=1)
    """
    kind = check_choice("kind", plain.get("kind") if isinstance(plain, Mapping) else plain, _MAKERS)
    try:
        return _MAKERS[kind](**{key: value for key, value in plain.items() if key != "kind"})
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        raise ValueError(f"{dict(plain)} describes no {kind} space: {error}") from error


def _box(low: Any, high: Any, shape: list[int], dtype: str) -> gym.Space[Any]:
    kind = np.dtype(check_choice("dtype", dtype, ("bool", "float16", "float32", "float64", *_WHOLE)))
    given = [np.asarray(bound, kind) for bound in (low, high)]
    bounds = [bound.reshape(shape) if bound.ndim else np.full(shape, bound) for bound in given]
    return gym.spaces.Box(bounds[0], bounds[1], dtype=kind)


def _whole(dtype: str) -> Any:
    return np.dtype(check_choice("dtype", dtype, _WHOLE)).type


_WHOLE = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))

_MAKERS: dict[str, Callable[..., gym.Space[Any]]] = {
    "Box": _box,
    "Discrete": lambda n, start, dtype: gym.spaces.Discrete(n, start=start, dtype=_whole(dtype)),
    "MultiDiscrete": lambda nvec, start, dtype: gym.spaces.MultiDiscrete(nvec, dtype=_whole(dtype), start=start),
    "MultiBinary": lambda n: gym.spaces.MultiBinary(n),
    "Dict": lambda parts: gym.spaces.Dict([(name, space_of(part)) for name, part in parts]),
    "Tuple": lambda parts: gym.spaces.Tuple([space_of(part) for part in parts]),
}


def _numbers(bounds: np.ndarray[Any, Any]) -> Any:
    """Return one number if all are the same, otherwise all; infinity becomes a word, since JSON cannot hold it."""
    numbers = [value if math.isfinite(value) else str(value) for value in bounds.ravel().tolist()]
    return numbers[0] if numbers and all(number == numbers[0] for number in numbers) else numbers
