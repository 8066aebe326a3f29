"""Observations of any space as one flat row of numbers, and back to what the network takes.

A rollout keeps one row for each lane, whatever the space, so that statistics, buffers and messages have one form. The
network gets tensors `(batch, *shape)`: one for a Box, a dict of them for a Dict, a tuple for a Tuple. A Discrete or
MultiDiscrete leaf arrives one-hot, as Stable-Baselines3 gives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces.utils import flatdim, flatten
from gymnasium.vector.utils import batch_space, iterate
from torch import Tensor
from torch.utils._pytree import tree_leaves

Inputs = Any  # what the network is called with: a tensor (batch, *shape), or a dict or tuple of them

_LEAVES = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)


class Layout:
    """Where each leaf of an observation stands in its flat row.

    Attributes:
        size: Elements of a row.
        measured: Bool array `(size,)`: which elements are measurements, worth normalising. A choice (one-hot, binary,
            whole numbers from 0 to 1 such as an action mask) is none, nor is a picture (bytes in 2 or 3 axes).

    Args:
        space: A Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict or Tuple of these.

    Raises:
        ValueError: If the space holds another kind, or nothing at all.

    Example:
        >>> layout = Layout(gym.spaces.Dict(arm=gym.spaces.Box(-1, 1, (2,)), gear=gym.spaces.Discrete(3)))
        >>> row = layout.row({"arm": np.array([0.5, 1.0], np.float32), "gear": 2})
        >>> row, layout.measured
        (array([0.5, 1. , 0. , 0. , 1. ]), array([ True,  True, False, False, False]))
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        _check(space)
        self.space = space
        self.size = flatdim(space)
        if not self.size:
            raise ValueError(f"`observation_space` must have at least one element, got {space}.")
        self.measured: npt.NDArray[np.bool_] = np.concatenate([_measured(leaf) for leaf in leaves(space)])
        self._box = isinstance(space, gym.spaces.Box)

    def row(self, observation: Any) -> npt.NDArray[Any]:
        """Return one observation as its row `(size,)`."""
        row: npt.NDArray[Any] = np.ravel(observation) if self._box else flatten(self.space, observation)  # type: ignore[assignment]
        return row

    def inputs(self, rows: Tensor) -> Inputs:
        """Return what the network takes for rows `(batch, size)`: views of them."""
        return _inputs(self.space, rows)

    def joined(self, inputs: Inputs) -> Tensor:
        """Return the rows `(batch, size)` of what the network takes."""
        return _joined(self.space, inputs)

    def rows(self, observation: Any) -> tuple[npt.NDArray[Any], bool]:
        """Return rows `(batch, size)` of one observation or of a batch, and whether it was one.

        Raises:
            ValueError: If the shape is another.
        """
        counts = {
            count for leaf, value, path in _values(self.space, observation) for count in [_count(leaf, value, path)]
        }
        if len(counts) > 1:
            raise ValueError(f"`observation` must be one, or a batch, in all its parts, got batches of {counts}.")
        count = counts.pop()
        if count is None:
            return self.row(observation)[None], True
        if self._box:
            return np.reshape(observation, (count, -1)), False
        singles = iterate(batch_space(self.space, count), observation)
        return np.stack([self.row(single) for single in singles]), False


def _values(space: gym.Space[Any], observation: Any, path: str = "observation") -> Iterator[tuple[Any, Any, str]]:
    """Yield each leaf of a space, its value in an observation or a batch, and where that stands.

    Raises:
        ValueError: If a part is missing.
    """
    if not (names := _names(space)):
        yield space, observation, path
        return
    for name, part in zip(names, _parts(space), strict=True):
        try:
            own = observation[name]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"`{path}` must be a {space}, got {_told(observation)}: it has no {name!r}.") from error
        yield from _values(part, own, f"{path}[{name!r}]")


def _count(leaf: gym.Space[Any], value: Any, path: str) -> int | None:
    """Return how many values a batch holds; None for one value alone.

    Raises:
        ValueError: If it is neither.
    """
    shape = leaf.shape or ()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        array = np.asarray(None)
    if array.dtype == object:
        hint = "; `env.reset()` returns it with an info" if isinstance(value, tuple) and len(value) == 2 else ""
        raise ValueError(
            f"`{path}` must be an array of shape {shape}, or (batch, ...) of it, got {_told(value)}{hint}."
        )
    if array.shape == shape:
        return None
    if not array.shape or array.shape[1:] != shape:
        raise ValueError(f"`{path}` must have shape {shape}, or (batch, ...) of it, got {array.shape}.")
    return len(array)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {', '.join(map(repr, value)) or 'nothing'}"
    return f"a {type(value).__name__}"


def concatenated(inputs: Inputs) -> Tensor:
    """Return a network's inputs, of whatever form, as rows `(batch, size)`.

    Example:
        >>> concatenated({"arm": torch.zeros(5, 2, 3), "gear": torch.zeros(5, 4)}).shape
        torch.Size([5, 10])
    """
    return torch.cat([leaf.reshape(leaf.shape[0], -1) for leaf in tree_leaves(inputs)], 1)


def flat_rows(space: gym.Space[Any], observation: Any) -> Tensor:
    """Return a batch of observations, each leaf a tensor of its own dtype, as rows `(batch, size)`.

    It is `Layout.row` for a batch, in operations that torch can export. Booleans stand for one-hot zeros and ones.

    Example:
        >>> flat_rows(gym.spaces.Discrete(3, start=5), torch.tensor([5, 7]))
        tensor([[ True, False, False],
                [False, False,  True]])
    """
    if isinstance(space, gym.spaces.Dict):
        return torch.cat([flat_rows(part, observation[name]) for name, part in space.spaces.items()], 1)
    if isinstance(space, gym.spaces.Tuple):
        return torch.cat([flat_rows(part, own) for part, own in zip(space.spaces, observation, strict=True)], 1)
    if isinstance(space, gym.spaces.Discrete):
        places = torch.arange(int(space.n), device=observation.device) + int(space.start)
        chosen: Tensor = observation[:, None] == places
        return chosen
    flat: Tensor = observation.reshape(observation.shape[0], -1)
    if isinstance(space, gym.spaces.MultiDiscrete):
        counts, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
        spots = [torch.arange(count, device=flat.device) + start for count, start in zip(counts, starts, strict=True)]
        return torch.cat([flat[:, i : i + 1] == spot for i, spot in enumerate(spots)], 1)
    return flat


def _check(space: gym.Space[Any]) -> None:
    for leaf in leaves(space):
        if not isinstance(leaf, _LEAVES):
            raise ValueError(
                "`observation_space` must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of "
                f"these, got {leaf}; wrap the environment to offer one of them."
            )


def leaves(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    """Return the spaces that a Dict or Tuple is made of, in order; of another space, itself.

    Example:
        >>> leaves(gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Discrete(3)]))
        [Discrete(2), Discrete(3)]
    """
    return [leaf for part in _parts(space) for leaf in leaves(part)] or [space]


def _names(space: gym.Space[Any]) -> list[Any]:
    return list(space.spaces) if isinstance(space, gym.spaces.Dict) else list(range(len(_parts(space))))


def _parts(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    if isinstance(space, gym.spaces.Dict):
        return list(space.spaces.values())
    return list(space.spaces) if isinstance(space, gym.spaces.Tuple) else []


def _measured(leaf: gym.Space[Any]) -> npt.NDArray[np.bool_]:
    if not isinstance(leaf, gym.spaces.Box):
        return np.zeros(flatdim(leaf), bool)
    picture = leaf.dtype == np.uint8 and len(leaf.shape) in (2, 3)
    choice = not np.issubdtype(leaf.dtype, np.floating) and bool(np.all((leaf.low >= 0) & (leaf.high <= 1)))
    return np.full(flatdim(leaf), not (picture or choice))


def _inputs(space: gym.Space[Any], rows: Tensor) -> Inputs:
    parts = _parts(space)
    if not parts:
        return rows.reshape(rows.shape[0], *space.shape) if isinstance(space, gym.spaces.Box) else rows
    made = [_inputs(part, own) for part, own in zip(parts, rows.split([flatdim(p) for p in parts], 1), strict=True)]
    return dict(zip(space.spaces, made, strict=True)) if isinstance(space, gym.spaces.Dict) else tuple(made)


def _joined(space: gym.Space[Any], inputs: Inputs) -> Tensor:
    if isinstance(space, gym.spaces.Dict):
        return torch.cat([_joined(part, inputs[name]) for name, part in space.spaces.items()], 1)
    if isinstance(space, gym.spaces.Tuple):
        return torch.cat([_joined(part, own) for part, own in zip(space.spaces, inputs, strict=True)], 1)
    leaf: Tensor = inputs
    return leaf.reshape(leaf.shape[0], -1)
