"""From a network's output to an action of the space; the same code for arrays and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from torch_es.heads.boxes import make_box_head
from torch_es.heads.protocol import Head, Output
from torch_es.spaces.layout import leaves


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
        self.parts = slices(space.nvec.ravel().tolist())
        self.size = int(space.nvec.sum())

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


class CompositeHead:
    """The parts of a Dict or a Tuple, each by its own head, from consecutive stretches of the output.

    Example:
        >>> space = gym.spaces.Dict(arm=gym.spaces.Box(-1, 1, (1,)), gear=gym.spaces.Discrete(2))
        >>> make_head(space)(np.array([0.5, 0.1, 0.9], np.float32))
        {'arm': array([0.5], dtype=float32), 'gear': np.int64(1)}
    """

    def __init__(self, heads: Mapping[str, Head] | tuple[Head, ...]) -> None:
        self.heads = heads
        self.each = list(heads.values()) if isinstance(heads, Mapping) else list(heads)
        self.parts = slices([head.size for head in self.each])
        self.size = sum(head.size for head in self.each)

    def together(self, actions: list[Any]) -> Any:
        """Return the actions of the parts in the space's form."""
        return dict(zip(self.heads, actions, strict=True)) if isinstance(self.heads, Mapping) else tuple(actions)

    def __call__(self, output: Output) -> Any:
        """Return a dict or a tuple of actions."""
        return self.together([head(output[..., part]) for head, part in zip(self.each, self.parts, strict=True)])


_HEADS: dict[type, Callable[[Any], Head]] = {
    gym.spaces.Discrete: DiscreteHead,
    gym.spaces.MultiDiscrete: MultiDiscreteHead,
    gym.spaces.MultiBinary: MultiBinaryHead,
}


def make_head(space: gym.Space[Any], box_head: str = "clip") -> Head:
    """Return the head that fits `space`.

    Args:
        space: Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of these.
        box_head: What a Box gets. "clip": the output cut to the bounds; "tanh": squashed onto them; "gaussian": mean
            and deviation; "uniform:10": for each component a choice of 10 evenly spaced values; "custom:-1,0,0.5": of
            these, from -1, the lower bound, to 1, the upper.

    Raises:
        ValueError: If there is none, or `box_head` is none of these or does not apply.

    Example:
        >>> make_head(gym.spaces.Discrete(4)).size, make_head(gym.spaces.Box(-1, 1, (3,)), "uniform:10").size
        (4, 30)
    """
    if box_head != "clip" and not any(isinstance(leaf, gym.spaces.Box) for leaf in leaves(space)):
        raise ValueError(f"`box_head` is for a Box action space, got {box_head!r} for {space}.")
    return _make(space, box_head)


def _make(space: gym.Space[Any], box_head: str) -> Head:
    if isinstance(space, gym.spaces.Box):
        return make_box_head(space, box_head)
    if isinstance(space, gym.spaces.Dict):
        return CompositeHead({name: _make(part, box_head) for name, part in space.spaces.items()})
    if isinstance(space, gym.spaces.Tuple):
        return CompositeHead(tuple(_make(part, box_head) for part in space.spaces))
    for kind, head in _HEADS.items():
        if isinstance(space, kind):
            return head(space)
    raise ValueError(
        "`action_space` must be Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of these, "
        f"got {space}; wrap the environment to offer one of them."
    )


def slices(sizes: list[int]) -> list[slice]:
    """Return consecutive stretches of these lengths.

    Example:
        >>> slices([2, 3])
        [slice(0, 2, None), slice(2, 5, None)]
    """
    return [slice(a, b) for a, b in pairwise(accumulate(sizes, initial=0))]


def unbatched(actions: Any, count: int) -> Any:
    """Return batched actions as a sequence of `count` single ones; arrays are that already.

    Example:
        >>> unbatched({"gear": np.array([1, 0])}, 2)[1]
        {'gear': np.int64(0)}
    """
    if isinstance(actions, Mapping):
        parts = {name: unbatched(part, count) for name, part in actions.items()}
        return [{name: part[i] for name, part in parts.items()} for i in range(count)]
    if isinstance(actions, tuple):
        return list(zip(*(unbatched(part, count) for part in actions), strict=True))
    return actions
