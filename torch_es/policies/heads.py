"""From a network's output to an action of the space; the same code for arrays and tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch

Output = Any  # numpy array or torch tensor, (..., size)


class Head(Protocol):
    """Turns outputs `(..., size)` into actions."""

    size: int

    def __call__(self, output: Output) -> Output:
        """Return actions."""
        ...


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


class DiscreteHead:
    """The choice with the highest score.

    Example:
        >>> int(DiscreteHead(gym.spaces.Discrete(3))(np.array([0.1, 0.9, 0.2])))
        1
    """

    def __init__(self, space: gym.spaces.Discrete) -> None:
        self.size = int(space.n)
        self.start = int(space.start)

    def __call__(self, output: Output) -> Output:
        """Return whole numbers."""
        return output.argmax(-1) + self.start


class MultiDiscreteHead:
    """The choice with the highest score, for each component.

    Example:
        >>> MultiDiscreteHead(gym.spaces.MultiDiscrete([2, 3]))(np.array([0.1, 0.9, 0.2, 0.1, 0.3]))
        array([1, 2])
    """

    def __init__(self, space: gym.spaces.MultiDiscrete) -> None:
        self.shape, self.start = space.shape, space.start
        ends = np.cumsum(space.nvec.ravel()).tolist()
        self.size = ends[-1]
        self.parts = [slice(a, b) for a, b in pairwise([0, *ends])]

    def __call__(self, output: Output) -> Output:
        """Return whole numbers of the space's shape."""
        chosen = [output[..., part].argmax(-1) for part in self.parts]
        tensors = isinstance(output, torch.Tensor)
        together = torch.stack(chosen, -1) if tensors else np.stack(chosen, -1)
        together = together.reshape(*output.shape[:-1], *self.shape)
        return together + (torch.from_numpy(self.start) if tensors else self.start)


class MultiBinaryHead:
    """One where the output is positive.

    Example:
        >>> MultiBinaryHead(gym.spaces.MultiBinary(2))(np.array([-0.1, 3.0]))
        array([0, 1], dtype=int8)
    """

    def __init__(self, space: gym.spaces.MultiBinary) -> None:
        self.size, self.shape = int(np.prod(space.shape)), space.shape

    def __call__(self, output: Output) -> Output:
        """Return zeros and ones of the space's shape."""
        on = output.reshape(*output.shape[:-1], *self.shape) > 0
        return on.to(torch.int8) if isinstance(on, torch.Tensor) else on.astype(np.int8)


_HEADS: dict[type, Callable[[Any], Head]] = {
    gym.spaces.Discrete: DiscreteHead,
    gym.spaces.MultiDiscrete: MultiDiscreteHead,
    gym.spaces.MultiBinary: MultiBinaryHead,
}


def make_head(space: gym.Space[Any], box_head: str = "clip") -> Head:
    """Return the head that fits `space`.

    Args:
        space: Box, Discrete, MultiDiscrete or MultiBinary.
        box_head: What a Box gets. "clip": the output cut to the bounds; "tanh": squashed onto them; "uniform:10": for
            each component a choice of 10 evenly spaced values; "custom:-1,0,0.5": of these, from -1, the lower bound,
            to 1, the upper.

    Raises:
        ValueError: If there is none, or `box_head` is none of these or does not apply.

    Example:
        >>> make_head(gym.spaces.Discrete(4)).size, make_head(gym.spaces.Box(-1, 1, (3,)), "uniform:10").size
        (4, 30)
    """
    if isinstance(space, gym.spaces.Box):
        return _box_head(space, box_head)
    if box_head != "clip":
        raise ValueError(f"`box_head` is for a Box action space, got {box_head!r} for {space}.")
    for kind, head in _HEADS.items():
        if isinstance(space, kind):
            return head(space)
    raise ValueError(
        f"`action_space` must be Box, Discrete, MultiDiscrete or MultiBinary, got {space}; "
        "wrap the environment to offer one of them."
    )


def _box_head(space: gym.spaces.Box, given: str) -> Head:
    if given == "clip":
        return ClipHead(space)
    if given == "tanh":
        return TanhHead(space)
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
            "`box_head` must be clip, tanh, uniform:N with N at least 2, or custom:V1,V2,... with values from -1 to 1, "
            f"got {given!r}."
        )
    return places


def _finite_bounds(space: gym.spaces.Box) -> tuple[Any, Any]:
    if not np.isfinite([space.low, space.high]).all():
        raise ValueError(f"`box_head` other than clip needs a Box with finite bounds, got {space}.")
    return space.low.astype(np.float32), space.high.astype(np.float32)
