"""Heads for a Box: cut to the bounds, squashed onto them, a choice among values, or a mean with a deviation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torch_es.heads.protocol import Head, Output, typed
from torch_es.nn.buffers import Constants
from torch_es.types import Float32Array

BoxHead = str | Head | Callable[[gym.spaces.Box], Head]  # by its short name, itself, or what makes one for a Box


class ClipHead(Constants):
    """The output cut to the bounds of a Box, in its dtype; whole numbers are rounded.

    Float32 has fewer numbers than float64. Bounds are rounded inwards, so that a cut action lies in the space.

    Example:
        >>> ClipHead(gym.spaces.Box(0, 9, (2,), np.uint8))(np.array([-3.0, 4.6], np.float32))
        array([0, 5], dtype=uint8)
    """

    low: Tensor
    high: Tensor

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        self.size, self.shape, self._dtype = int(np.prod(space.shape)), space.shape, np.dtype(space.dtype)
        self._whole = not np.issubdtype(self._dtype, np.floating)
        self._low, self._high = _inwards(space.low, np.inf), _inwards(space.high, -np.inf)
        self.register_buffer("low", torch.from_numpy(self._low), persistent=False)
        self.register_buffer("high", torch.from_numpy(self._high), persistent=False)

    def forward(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        action = output.reshape(*output.shape[:-1], *self.shape)
        if isinstance(action, Tensor):
            action = action.clip(self.low, self.high)
            return typed(action.round() if self._whole else action, self._dtype)
        action = np.minimum(np.maximum(action, self._low), self._high)  # half the cost of np.clip
        if self._whole:
            action = np.rint(action)
        return action if action.dtype == self._dtype else action.astype(self._dtype)


def _inwards(bound: npt.NDArray[Any], inside: float) -> Float32Array:
    """Return the float32 that is nearest to the bound and not beyond it."""
    near = bound.astype(np.float32)
    if bound.dtype.kind in "iu":  # NumPy would compare with float64, to which 2**63 - 1 is 2**63
        exact = np.array([int(number) - int(own) for number, own in zip(near.ravel(), bound.ravel(), strict=True)])
        beyond = (exact < 0 if inside > 0 else exact > 0).reshape(bound.shape)
    else:
        beyond = near < bound if inside > 0 else near > bound
    nearest: Float32Array = np.where(beyond, np.nextafter(near, np.float32(inside)), near)
    return nearest


class TanhHead(Constants):
    """The output squashed by tanh onto the bounds of a Box.

    Example:
        >>> TanhHead(gym.spaces.Box(0, 2, (2,)))(np.array([0.0, 99.0], np.float32))
        array([1., 2.], dtype=float32)
    """

    centre: Tensor
    reach: Tensor

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        low, high = _finite_bounds(space)
        self._centre, self._reach = (low + high) / 2, (high - low) / 2
        self.register_buffer("centre", torch.from_numpy(self._centre), persistent=False)
        self.register_buffer("reach", torch.from_numpy(self._reach), persistent=False)
        self.clip = ClipHead(space)  # rounding may carry the last digit beyond the bound
        self.size, self._clip = self.clip.size, self.clip.forward  # looking up a module's part costs as much as cutting

    def forward(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        if isinstance(output, Tensor):
            return self._clip(self.centre + self.reach * torch.tanh(output))
        return self._clip(self._centre + self._reach * np.tanh(output))


class BinnedHead(Constants):
    """A choice among a few values for each component of a Box, as in Salimans et al. 2017 for Hopper and Swimmer.

    Args:
        space: A Box with finite bounds.
        places: Where the values lie between the bounds: -1 is the lower bound, 1 the upper.

    Example:
        >>> head = BinnedHead(gym.spaces.Box(0, 4, (2,)), [-1.0, 0.0, 1.0])
        >>> head(np.array([9, 0, 0, 0, 0, 9], np.float32))
        array([0., 4.], dtype=float32)
    """

    values: Tensor

    def __init__(self, space: gym.spaces.Box, places: Sequence[float]) -> None:
        super().__init__()
        low, high = _finite_bounds(space)
        self.shape, self.count = space.shape, len(places)
        self.size = low.size * self.count
        between = (np.asarray(places, np.float32)[:, None] + 1) / 2
        actions = ClipHead(space)(low + between * (high - low))
        self._values = np.ascontiguousarray(actions.reshape(self.count, -1).T)  # (components, count)
        self.register_buffer("values", torch.from_numpy(self._values), persistent=False)

    def forward(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        chosen = output.reshape(*output.shape[:-1], -1, self.count).argmax(-1)
        if isinstance(output, Tensor):
            values: Output = self.values[torch.arange(len(self.values), device=output.device), chosen]
        else:
            values = self._values[np.arange(len(self._values)), chosen]
        return values.reshape(*chosen.shape[:-1], *self.shape)


class GaussianHead(Constants):
    """A diagonal Gaussian. The output is its means, then the logarithms of its standard deviations.

    The action is the mean, cut to the bounds. `action_noise="sample"` samples with the deviations.

    Example:
        >>> GaussianHead(gym.spaces.Box(-1, 1, (2,)))(np.array([0.5, 3.0, 0.0, 0.0], np.float32))
        array([0.5, 1. ], dtype=float32)
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        self.mean = ClipHead(space)
        self.size = 2 * self.mean.size

    def forward(self, output: Output) -> Output:
        """Return actions of the space's shape."""
        return self.mean.forward(output[..., : self.mean.size])


def box_heads(given: BoxHead) -> Callable[[gym.spaces.Box], Head]:
    """Return a function that makes the head that `given` names or is; see `torch_es.heads.make_head`.

    Raises:
        ValueError: If no head has this name.

    Example:
        >>> box_heads("uniform:10")(gym.spaces.Box(-1, 1, (3,))).size
        30
    """
    if not isinstance(given, str):
        return (lambda _: given) if hasattr(given, "size") and not isinstance(given, type) else given  # type: ignore[return-value]
    named: dict[str, Callable[[gym.spaces.Box], Head]] = {"clip": ClipHead, "tanh": TanhHead, "gaussian": GaussianHead}
    return named[given] if given in named else partial(BinnedHead, places=_places(given))


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


def _finite_bounds(space: gym.spaces.Box) -> tuple[Float32Array, Float32Array]:
    with np.errstate(over="ignore"):
        low, high = space.low.astype(np.float32).ravel(), space.high.astype(np.float32).ravel()
        if not np.isfinite([low, high, high - low]).all():
            raise ValueError(
                f"`box_head` other than clip needs a Box with finite bounds, and a finite distance between them, got "
                f"{space}; float32 ends at 3.4e38."
            )
    return low, high
