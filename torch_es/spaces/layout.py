"""Observations of any space as one flat row of float32, and back to what the network takes.

A rollout keeps one row a lane, whatever the space: statistics, buffers and messages then have one form. The network
gets tensors `(batch, *shape)`: one for a Box, a dict of them for a Dict, a tuple for a Tuple; a Discrete or
MultiDiscrete leaf arrives one-hot, as Stable-Baselines3 gives it.
"""

from __future__ import annotations

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
        measured: Bool array `(size,)`: which elements are measurements, worth normalising; a choice (one-hot, binary)
            or a picture (a Box of uint8) is not.

    Args:
        space: A Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict or Tuple of these.

    Raises:
        ValueError: If the space holds another kind.

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
        self.measured: npt.NDArray[np.bool_] = np.concatenate([_measured(leaf) for leaf in leaves(space)])
        self._box = isinstance(space, gym.spaces.Box)

    def row(self, observation: Any) -> npt.NDArray[Any]:
        """Return one observation as its row `(size,)`."""
        row: npt.NDArray[Any] = np.ravel(observation) if self._box else flatten(self.space, observation)  # type: ignore[assignment]
        return row

    def inputs(self, rows: Tensor) -> Inputs:
        """Return what the network takes for rows `(batch, size)`: views of them."""
        return _inputs(self.space, rows)

    def rows(self, observation: Any) -> tuple[npt.NDArray[Any], bool]:
        """Return rows `(batch, size)` of one observation or of a batch, and whether it was one.

        Raises:
            ValueError: If the shape is another.
        """
        leaf, value = _first(self.space, observation)
        shape, given = leaf.shape or (), np.shape(value)
        if given == shape:
            return self.row(observation)[None], True
        if not given or given[1:] != shape:
            raise ValueError(f"`observation` must have shape {shape}, or (batch, ...) of it, got {given}.")
        if self._box:
            return np.reshape(observation, (given[0], -1)), False
        singles = iterate(batch_space(self.space, given[0]), observation)
        return np.stack([self.row(single) for single in singles]), False


def _first(space: gym.Space[Any], observation: Any) -> tuple[gym.Space[Any], Any]:
    """Return the first leaf of a space and of an observation, whose shapes tell one from a batch."""
    if isinstance(space, gym.spaces.Dict):
        name = next(iter(space.spaces))
        return _first(space.spaces[name], observation[name])
    if isinstance(space, gym.spaces.Tuple):
        return _first(space.spaces[0], observation[0])
    return space, observation


def concatenated(inputs: Inputs) -> Tensor:
    """Return a network's inputs, of whatever form, as rows `(batch, size)`.

    Example:
        >>> concatenated({"arm": torch.zeros(5, 2, 3), "gear": torch.zeros(5, 4)}).shape
        torch.Size([5, 10])
    """
    return torch.cat([leaf.flatten(1) for leaf in tree_leaves(inputs)], 1)


def flat_rows(space: gym.Space[Any], observation: Any) -> Tensor:
    """Return a batch of observations, each leaf a tensor of its own dtype, as rows `(batch, size)`.

    What `Layout.row` does for one observation, for torch to follow; booleans stand for one-hot zeros and ones.

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
        chosen: Tensor = observation[:, None] == torch.arange(int(space.n)) + int(space.start)
        return chosen
    flat: Tensor = observation.flatten(1)
    if isinstance(space, gym.spaces.MultiDiscrete):
        counts, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
        places = [torch.arange(count) + start for count, start in zip(counts, starts, strict=True)]
        return torch.cat([flat[:, i : i + 1] == place for i, place in enumerate(places)], 1)
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


def _parts(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    if isinstance(space, gym.spaces.Dict):
        return list(space.spaces.values())
    return list(space.spaces) if isinstance(space, gym.spaces.Tuple) else []


def _measured(leaf: gym.Space[Any]) -> npt.NDArray[np.bool_]:
    return np.full(flatdim(leaf), isinstance(leaf, gym.spaces.Box) and leaf.dtype != np.uint8)


def _inputs(space: gym.Space[Any], rows: Tensor) -> Inputs:
    parts = _parts(space)
    if not parts:
        return rows.reshape(rows.shape[0], *space.shape) if isinstance(space, gym.spaces.Box) else rows
    made = [_inputs(part, own) for part, own in zip(parts, rows.split([flatdim(p) for p in parts], 1), strict=True)]
    return dict(zip(space.spaces, made, strict=True)) if isinstance(space, gym.spaces.Dict) else tuple(made)
