"""Heads for a Box: cut to the bounds, squashed onto them, a choice among values, a mean with a deviation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from torch_es.heads.protocol import Head, Output
from torch_es.types import Float32Array


class Cut:
    """Cuts arrays of a Box's shape to its bounds, and gives them its type; whole numbers are rounded to.

    Float32 has fewer numbers than float64: bounds are rounded inwards, so that what is cut lies in the space.

    Example:
        >>> Cut(gym.spaces.Box(0, 9, (2,), np.uint8))(np.array([-3.0, 4.6], np.float32))
        array([0, 5], dtype=uint8)
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        self.low, self.high = _inwards(space.low, np.inf), _inwards(space.high, -np.inf)
        self._bounds = torch.from_numpy(self.low), torch.from_numpy(self.high)
        self._dtype = np.dtype(space.dtype)
        self._whole = np.issubdtype(self._dtype, np.integer)

    def __call__(self, action: Output) -> Output:
        """Return the actions cut."""
        if isinstance(action, torch.Tensor):
            cut = action.clip(*self._bounds)
            return (cut.round() if self._whole else cut).to(getattr(torch, self._dtype.name))
        array = np.minimum(np.maximum(action, self.low), self.high)  # half the cost of np.clip
        return (np.rint(array) if self._whole else array).astype(self._dtype, copy=False)


def _inwards(bound: npt.NDArray[Any], inside: float) -> Float32Array:
    """Return the float32 that is nearest to the bound, and not beyond it."""
    near = bound.astype(np.float32)
    beyond = near < bound if inside > 0 else near > bound
    nearest: Float32Array = np.where(beyond, np.nextafter(near, np.float32(inside)), near)
    return nearest


class ClipHead:
    """The output cut to the bounds of a Box.

    Example:
        >>> ClipHead(gym.spaces.Box(-1, 1, (2,)))(np.array([0.5, 3.0], np.float32))
        array([0.5, 1. ], dtype=float32)
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        self.size = int(np.prod(space.shape))
        self.shape = space.shape
        self._cut = Cut(space)

    def __call__(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        return self._cut(output.reshape(*output.shape[:-1], *self.shape))


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
        self._cut = Cut(space)  # the last digit of what is reached may lie beyond the bound

    def __call__(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        output = output.reshape(*output.shape[:-1], *self.shape)
        if isinstance(output, torch.Tensor):
            return self._cut(torch.from_numpy(self.centre) + torch.from_numpy(self.reach) * torch.tanh(output))
        return self._cut(self.centre + self.reach * np.tanh(output))


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
        values = low[..., None] + between * (high - low)[..., None]
        cut = Cut(space)
        self.values = np.stack([cut(values[..., i]).ravel() for i in range(self.count)], -1)  # (components, count)

    def __call__(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        chosen = output.reshape(*output.shape[:-1], -1, self.count).argmax(-1)
        components = np.arange(len(self.values))
        values = torch.from_numpy(self.values) if isinstance(output, torch.Tensor) else self.values
        return values[components, chosen].reshape(*chosen.shape[:-1], *self.shape)


class GaussianHead:
    """A diagonal Gaussian: means, then logarithms of standard deviations; its action is the mean, cut to the bounds.

    The deviations matter where actions are sampled (`action_noise="sample"`); see `torch_es.heads.noise`.

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
    """Return the head that `given` names; see `torch_es.heads.choices.make_head`.

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
