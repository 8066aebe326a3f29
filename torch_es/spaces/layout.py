"""Observations of any space as one flat row of numbers, and back to what the network takes.

A rollout keeps one row for each lane, whatever the space, so that statistics, buffers and messages have one form. The
network gets tensors `(batch, *shape)`: one for a Box, a dict of them for a Dict, a tuple for a Tuple. A Discrete or
MultiDiscrete leaf arrives one-hot, as Stable-Baselines3 gives it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces.utils import flatdim, flatten
from gymnasium.vector.utils import batch_space, iterate
from torch import Tensor
from torch.utils._pytree import tree_leaves

from torch_es.checks import described

Inputs = Any  # what the network is called with: a tensor (batch, *shape), or a dict or tuple of them

_LEAVES = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)
_CHOICES = (gym.spaces.Discrete, gym.spaces.MultiDiscrete)
_TREES = (gym.spaces.Dict, gym.spaces.Tuple)


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
        within = leaves(space)
        for leaf in within:
            if not isinstance(leaf, (*_LEAVES, *_TREES)):
                raise ValueError(
                    "`observation_space` must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of "
                    f"these, got {leaf}; wrap the environment to offer one of them."
                )
            if isinstance(leaf, gym.spaces.MultiDiscrete) and leaf.dtype == np.uint64:
                raise ValueError("`observation_space` holds a MultiDiscrete of uint64, which Gymnasium cannot flatten.")
        self.space = space
        self.size = flatdim(space)
        if not self.size or any(isinstance(leaf, _TREES) for leaf in within):
            raise ValueError(f"`observation_space` must have at least one element in each part, got {space}.")
        self.measured: npt.NDArray[np.bool_] = np.concatenate([_measured(leaf) for leaf in leaves(space)])
        self._box = isinstance(space, gym.spaces.Box)
        self._choices = [  # in what is read at each step, where they stand and their bounds
            (path, leaf, leaf.start, leaf.start + (leaf.n if isinstance(leaf, gym.spaces.Discrete) else leaf.nvec))
            for path, leaf in _paths(space)
            if isinstance(leaf, _CHOICES)
        ]

    def row(self, observation: Any) -> npt.NDArray[Any]:
        """Return one observation as its row `(size,)`."""
        if self._box:
            return np.ravel(observation)
        self._check_choices(observation)
        row: npt.NDArray[Any] = flatten(self.space, observation)  # type: ignore[assignment]
        return row

    def _check_choices(self, observation: Any) -> None:
        """Refuse a choice that the space does not have: Gymnasium would count from the end, or set two at once.

        Raises:
            ValueError: If there is one.
        """
        for path, leaf, start, stop in self._choices:
            value = observation
            for name in path:
                value = value[name]
            chosen = (start <= value < stop) if leaf.shape == () else ((start <= value) & (value < stop)).all()
            if not chosen:
                where = "".join(f"[{name!r}]" for name in path)
                raise ValueError(f"`observation{where}` must be in {leaf}, got {value}.")

    def inputs(self, rows: Tensor) -> Inputs:
        """Return what the network takes for rows `(batch, size)`: views of them."""
        return _inputs(self.space, rows)

    def joined(self, inputs: Inputs) -> Tensor:
        """Return the rows `(batch, size)` of what the network takes."""
        return torch.cat([leaf.reshape(leaf.shape[0], -1) for _, leaf, _ in _values(self.space, inputs)], 1)

    def rows(self, observation: Any) -> tuple[npt.NDArray[Any], bool]:
        """Return rows `(batch, size)` of one observation or of a batch, and whether it was one.

        Raises:
            ValueError: If the shape is another.
        """
        counts = {_count(leaf, value, path) for leaf, value, path in _values(self.space, observation)}
        if len(counts) > 1:
            raise ValueError(f"`observation` must be one, or a batch, in all its parts, got batches of {counts}.")
        count = counts.pop()
        if count is None:
            return self.row(observation)[None], True
        if self._box:
            return np.reshape(observation, (count, -1)), False
        singles = iterate(batch_space(self.space, count), observation)
        return np.stack([self.row(single) for single in singles]), False


def _paths(space: gym.Space[Any], path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], gym.Space[Any]]]:
    """Yield each leaf of a space, and the keys that lead to its value in an observation."""
    if not (within := parts(space)):
        yield path, space
    for name, part in within.items():
        yield from _paths(part, (*path, name))


def _values(space: gym.Space[Any], observation: Any, path: str = "observation") -> Iterator[tuple[Any, Any, str]]:
    """Yield each leaf of a space, its value in an observation or a batch, and where that stands.

    Raises:
        ValueError: If a part is missing.
    """
    if not (within := parts(space)):
        yield space, observation, path
    for name, part in within.items():
        try:
            own = observation[name]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"`{path}` must be a {space}, got {described(observation)}: it has no {name!r}."
            ) from error
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
            f"`{path}` must be an array of shape {shape}, or (batch, ...) of it, got {described(value)}{hint}."
        )
    if array.shape == shape:
        return None
    if not array.shape or array.shape[1:] != shape:
        raise ValueError(f"`{path}` must have shape {shape}, or (batch, ...) of it, got {array.shape}.")
    return len(array)


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
    return torch.cat([_flat_leaf(leaf, value) for leaf, value, _ in _values(space, observation)], 1)


def _flat_leaf(leaf: gym.Space[Any], values: Tensor) -> Tensor:
    columns = values.reshape(values.shape[0], -1)
    if not isinstance(leaf, (gym.spaces.Discrete, gym.spaces.MultiDiscrete)):
        return columns
    counts = leaf.n if isinstance(leaf, gym.spaces.Discrete) else leaf.nvec
    columns = columns.long()  # torch does not compare unsigned numbers with others
    choices = zip(np.ravel(counts).tolist(), np.ravel(leaf.start).tolist(), strict=True)
    numbers = [torch.arange(count, device=values.device) + start for count, start in choices]
    return torch.cat([columns[:, i : i + 1] == each for i, each in enumerate(numbers)], 1)


def leaves(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    """Return the spaces that a Dict or Tuple is made of, in order; of another space, itself.

    Example:
        >>> leaves(gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Discrete(3)]))
        [Discrete(2), Discrete(3)]
    """
    return [leaf for part in parts(space).values() for leaf in leaves(part)] or [space]


def parts(space: gym.Space[Any]) -> dict[Any, gym.Space[Any]]:
    """Return the spaces directly inside a Dict, by key, or a Tuple, by number; nothing of another space."""
    if isinstance(space, gym.spaces.Dict):
        return dict(space.spaces)
    return dict(enumerate(space.spaces)) if isinstance(space, gym.spaces.Tuple) else {}


def _measured(leaf: gym.Space[Any]) -> npt.NDArray[np.bool_]:
    if not isinstance(leaf, gym.spaces.Box):
        return np.zeros(flatdim(leaf), bool)
    picture = leaf.dtype == np.uint8 and len(leaf.shape) in (2, 3)
    choice = not np.issubdtype(leaf.dtype, np.floating) and bool(np.all((leaf.low >= 0) & (leaf.high <= 1)))
    return np.full(flatdim(leaf), not (picture or choice))


def _inputs(space: gym.Space[Any], rows: Tensor) -> Inputs:
    if not (within := parts(space)):
        return rows.reshape(rows.shape[0], *space.shape) if isinstance(space, gym.spaces.Box) else rows
    columns = rows.split([flatdim(part) for part in within.values()], 1)
    made = {name: _inputs(part, own) for (name, part), own in zip(within.items(), columns, strict=True)}
    return made if isinstance(space, gym.spaces.Dict) else tuple(made.values())
