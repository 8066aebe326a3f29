"""Heads for a Box: cut to the bounds, squashed onto them, a choice among values, a mean with a deviation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from torch_es.policies.head import Head, Output


class ClipHead:
    """The output cut to the bounds of a Box.

    Example:
        >>> ClipHead(gym.spaces.Box(-1, 1, (2,)))(np.array([0.5, 3.0], np.float32))
        array([0.5, 1. ], dtype=float32)
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        self.size = int(np.prod(space.shape))
        self.shape = space.shape
        # bounds in the output's own precision, so that cutting never changes its type
        self.low, self.high = space.low.astype(np.float32), space.high.astype(np.float32)
        self.bounds = torch.from_numpy(self.low), torch.from_numpy(self.high)

    def __call__(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        output = output.reshape(*output.shape[:-1], *self.shape)
        if isinstance(output, torch.Tensor):
            return output.clip(*self.bounds)
        return np.minimum(np.maximum(output, self.low), self.high)  # half the cost of np.clip


class TanhHead:
    """The output squashed by tanh onto the bounds of a Box.

    Example:
        >>> TanhHead(gym.spaces.Box(0, 2, (2,)))(np.array([0.0, 99.0], np.float32))
        array([1., 2.], dtype=float32)
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        low, high = _finite_bounds(space)
        self.size, self.shape = int(np.prod(space.shape)), space.shape
        self.centre, self.reach = (low + high) / 2, (high - low) / 2

    def __call__(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        output = output.reshape(*output.shape[:-1], *self.shape)
        if isinstance(output, torch.Tensor):
            return torch.from_numpy(self.centre) + torch.from_numpy(self.reach) * torch.tanh(output)
        return self.centre + self.reach * np.tanh(output)


class BinnedHead:
    """A choice among a few values for each component of a Box, as in Salimans et al. 2017 for Hopper and Swimmer.

    Args:
        space: With finite bounds.
        places: Where the values lie between the bounds, each from -1 (the lower) to 1 (the upper).

    Example:
        >>> head = BinnedHead(gym.spaces.Box(0, 4, (2,)), [-1.0, 0.0, 1.0])
        >>> head(np.array([9, 0, 0, 0, 0, 9], np.float32))
        array([0., 4.], dtype=float32)
    """

    def __init__(self, space: gym.spaces.Box, places: Sequence[float]) -> None:
        low, high = _finite_bounds(space)
        self.shape, self.count = space.shape, len(places)
        self.size = int(np.prod(space.shape)) * self.count
        between = (np.asarray(places, np.float32) + 1) / 2
        self.values = low.reshape(-1, 1) + between * (high - low).reshape(-1, 1)  # (components, count)

    def __call__(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        chosen = output.reshape(*output.shape[:-1], -1, self.count).argmax(-1)
        components = np.arange(len(self.values))
        values = torch.from_numpy(self.values) if isinstance(output, torch.Tensor) else self.values
        return values[components, chosen].reshape(*chosen.shape[:-1], *self.shape)


class GaussianHead:
    """A diagonal Gaussian: means, then logarithms of standard deviations; its action is the mean, cut to the bounds.

    The deviations matter where actions are sampled (`action_noise="sample"`); see `torch_es.policies.action_noise`.

    Example:
        >>> GaussianHead(gym.spaces.Box(-1, 1, (2,)))(np.array([0.5, 3.0, 0.0, 0.0], np.float32))
        array([0.5, 1. ], dtype=float32)
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        self.mean = ClipHead(space)
        self.size = 2 * self.mean.size

    def __call__(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        return self.mean(output[..., : self.mean.size])


def make_box_head(space: gym.spaces.Box, given: str) -> Head:
    """Return the head that `given` names; see `torch_es.policies.heads.make_head`.

    Raises:
        ValueError: If it names none, or the space has no bounds where they are needed.

    Example:
        >>> make_box_head(gym.spaces.Box(-1, 1, (3,)), "uniform:10").size
        30
    """
    if given == "clip":
        return ClipHead(space)
    if given == "tanh":
        return TanhHead(space)
    if given == "gaussian":
        return GaussianHead(space)
    return BinnedHead(space, _places(given))


def _places(given: str) -> list[float]:
    kind, _, values = given.partition(":")
    places: list[float] = []
    with suppress(ValueError):
        if kind == "uniform":
            places = np.linspace(-1, 1, int(values)).tolist()
        elif kind == "custom":
            places = [float(value) for value in values.split(",")]
    if len(places) < 2 or not all(-1 <= place <= 1 for place in places):
        raise ValueError(
            "`box_head` must be clip, tanh, gaussian, uniform:N with N at least 2, or custom:V1,V2,... with values "
            f"from -1 to 1, got {given!r}."
        )
    return places


def _finite_bounds(space: gym.spaces.Box) -> tuple[Any, Any]:
    if not np.isfinite([space.low, space.high]).all():
        raise ValueError(f"`box_head` other than clip needs a Box with finite bounds, got {space}.")
    return space.low.astype(np.float32), space.high.astype(np.float32)
