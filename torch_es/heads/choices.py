"""From a network's output to an action of the space, with the same code for arrays and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from torch_es.heads.boxes import BoxHead, box_heads
from torch_es.heads.protocol import Head, Output, typed
from torch_es.nn.buffers import Constants
from torch_es.spaces.layout import leaves, parts


class DiscreteHead(Constants):
    """The choice with the highest score.

    Example:
        >>> int(DiscreteHead(gym.spaces.Discrete(3))(np.array([0.1, 0.9, 0.2])))
        1
    """

    def __init__(self, space: gym.spaces.Discrete) -> None:
        super().__init__()
        self.size, self.start = int(space.n), int(space.start)
        self._dtype = space.dtype

    def forward(self, output: Output) -> Output:
        """Return whole numbers."""
        return typed(output.argmax(-1) + self.start, self._dtype)


class MultiDiscreteHead(Constants):
    """The choice with the highest score, for each component.

    Example:
        >>> MultiDiscreteHead(gym.spaces.MultiDiscrete([2, 3]))(np.array([0.1, 0.9, 0.2, 0.1, 0.3]))
        array([1, 2])
    """

    start: Tensor

    def __init__(self, space: gym.spaces.MultiDiscrete) -> None:
        super().__init__()
        self.shape, self._dtype = space.shape, space.dtype
        self._start = space.start.astype(np.int64)
        self.register_buffer("start", torch.from_numpy(self._start), persistent=False)
        self.parts = slices(space.nvec.ravel().tolist())
        self.size = int(space.nvec.sum())

    def forward(self, output: Output) -> Output:
        """Return whole numbers of the space's shape."""
        chosen = [output[..., part].argmax(-1) for part in self.parts]
        stack, start = (torch.stack, self.start) if isinstance(output, Tensor) else (np.stack, self._start)
        return typed(stack(chosen, -1).reshape(*output.shape[:-1], *self.shape) + start, self._dtype)


class MultiBinaryHead(Constants):
    """One where the output is positive.

    Example:
        >>> MultiBinaryHead(gym.spaces.MultiBinary(2))(np.array([-0.1, 3.0]))
        array([0, 1], dtype=int8)
    """

    def __init__(self, space: gym.spaces.MultiBinary) -> None:
        super().__init__()
        self.size, self.shape, self._dtype = int(np.prod(space.shape)), space.shape, space.dtype

    def forward(self, output: Output) -> Output:
        """Return zeros and ones of the space's shape."""
        return typed(output.reshape(*output.shape[:-1], *self.shape) > 0, self._dtype)


class CompositeHead(Constants):
    """The parts of a Dict or a Tuple, each by its own head, from consecutive stretches of the output.

    Example:
        >>> space = gym.spaces.Dict(arm=gym.spaces.Box(-1, 1, (1,)), gear=gym.spaces.Discrete(2))
        >>> make_head(space)(np.array([0.5, 0.1, 0.9], np.float32))
        {'arm': array([0.5], dtype=float32), 'gear': np.int64(1)}
    """

    def __init__(self, heads: Sequence[Head], space: gym.Space[Any]) -> None:
        super().__init__()
        self.each = list(heads)
        for i, head in enumerate(heads):
            if isinstance(head, nn.Module):
                self.add_module(str(i), head)
        self.parts = slices([head.size for head in heads])
        self.size = sum(head.size for head in heads)
        self._names = list(space.spaces) if isinstance(space, gym.spaces.Dict) else None

    def together(self, actions: list[Any]) -> Any:
        """Return the actions of the parts in the space's form."""
        return tuple(actions) if self._names is None else dict(zip(self._names, actions, strict=True))

    def forward(self, output: Output) -> Any:
        """Return a dict or a tuple of actions."""
        return self.together([head(output[..., part]) for head, part in zip(self.each, self.parts, strict=True)])


_HEADS: dict[type, Callable[[Any], Head]] = {
    gym.spaces.Discrete: DiscreteHead,
    gym.spaces.MultiDiscrete: MultiDiscreteHead,
    gym.spaces.MultiBinary: MultiBinaryHead,
}


def make_head(space: gym.Space[Any], box_head: BoxHead = "clip") -> Head:
    """Return the head that fits `space`.

    Args:
        space: Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of these.
        box_head: How outputs become actions of a Box. "clip" cuts them to the bounds. "tanh" squashes them onto the
            bounds. "gaussian" reads a mean and a deviation. "uniform:10" chooses among 10 evenly spaced values for each
            component. "custom:-1,0,0.5" chooses among these values, where -1 is the lower bound and 1 the upper. Or a
            `Head` of your own, or a function of the Box that makes one.

    Raises:
        ValueError: If no head fits, or `box_head` is none of these or does not apply.

    Example:
        >>> make_head(gym.spaces.Discrete(4)).size, make_head(gym.spaces.Box(-1, 1, (3,)), "uniform:10").size
        (4, 30)
    """
    if box_head != "clip" and not any(isinstance(leaf, gym.spaces.Box) for leaf in leaves(space)):
        raise ValueError(f"`box_head` is for a Box action space, got {box_head!r} for {space}.")
    head = _make(space, box_heads(box_head))
    if not head.size:
        raise ValueError(f"`action_space` must have at least one element, got {space}.")
    return head


def _make(space: gym.Space[Any], box_head: Callable[[gym.spaces.Box], Head]) -> Head:
    if isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
        return CompositeHead([_make(part, box_head) for part in parts(space).values()], space)
    for kind, head in {**_HEADS, gym.spaces.Box: box_head}.items():
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
    """Return batched actions as a sequence of `count` single ones, which an array of them already is.

    Example:
        >>> unbatched({"gear": np.array([1, 0])}, 2)[1]
        {'gear': np.int64(0)}
    """
    if isinstance(actions, Mapping):
        parts = {name: unbatched(part, count) for name, part in actions.items()}
        return [{name: part[i] for name, part in parts.items()} for i in range(count)]
    if isinstance(actions, tuple):
        return list(zip(*(unbatched(part, count) for part in actions), strict=True))
    if actions.ndim == 1 and np.issubdtype(actions.dtype, np.floating):  # of a Box of shape (), which wants arrays
        return [np.asarray(action) for action in actions]
    return actions
