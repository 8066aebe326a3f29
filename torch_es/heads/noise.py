"""Noise on actions: Gaussian, epsilon-random choices, or samples of the distribution that a head describes.

Each episode of a member has a random stream of its own, so its draws are the same wherever it is played. A draw of
zeros is no noise. The centre's episodes, played beside noisy members in the same batch, get zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from torch_es.heads.boxes import BinnedHead, Cut, GaussianHead
from torch_es.heads.choices import CompositeHead, MultiBinaryHead, slices
from torch_es.heads.protocol import Head
from torch_es.types import Float32Array


class ActionNoise(Protocol):
    """Turns outputs and random numbers into actions."""

    size: int

    def draw(self, generator: np.random.Generator) -> Float32Array:
        """Return the random numbers of one action, shape `(size,)`."""
        ...

    def __call__(self, output: Float32Array, draws: Float32Array) -> Any:
        """Return actions for outputs `(..., head.size)` and draws `(..., size)`; zeros give the head's own actions."""
        ...


class GaussianNoise:
    """Add `std * N(0, 1)` to each component of a Box's action, then cut to the bounds.

    Salimans et al. 2017's released code adds 0.01 in training (`ac_noise_std`).

    Example:
        >>> from torch_es.heads.choices import make_head
        >>> space = gym.spaces.Box(-1, 1, (2,))
        >>> noise = make_action_noise(space, make_head(space), "gaussian:0.1")
        >>> noise(np.zeros(2, np.float32), np.array([0.25, 9.0], np.float32))
        array([0.25, 1.  ], dtype=float32)
    """

    def __init__(self, space: gym.spaces.Box, head: Head, std: float) -> None:
        self.head, self.std, self._cut = head, std, Cut(space).forward
        self.size = int(np.prod(space.shape))

    def draw(self, generator: np.random.Generator) -> Float32Array:
        """See `ActionNoise.draw`."""
        return np.float32(self.std) * generator.standard_normal(self.size, np.float32)

    def __call__(self, output: Float32Array, draws: Float32Array) -> Any:
        """See `ActionNoise.__call__`."""
        action = self.head(output)
        return self._cut(action + draws.reshape(action.shape))


class EpsilonNoise:
    """With probability `epsilon`, every choice of an action is random instead of the best one."""

    def __init__(self, head: Head, epsilon: float) -> None:
        self.head, self.epsilon = head, epsilon
        self.size = 1 + head.size

    def draw(self, generator: np.random.Generator) -> Float32Array:
        """Whether to choose at random, and the scores to choose by, symmetric about zero."""
        scores = generator.random(self.size, np.float32) - np.float32(0.5)
        scores[0] = generator.random() < self.epsilon
        return scores

    def __call__(self, output: Float32Array, draws: Float32Array) -> Any:
        """See `ActionNoise.__call__`."""
        return self.head(np.where(draws[..., :1] > 0, draws[..., 1:], output))


class ScoreNoise:
    """Sample a choice from its scores: a categorical by Gumbel noise on them, a Bernoulli by logistic noise."""

    def __init__(self, head: Head) -> None:
        self.head, self.size = head, head.size
        self._bernoulli = isinstance(head, MultiBinaryHead)

    def draw(self, generator: np.random.Generator) -> Float32Array:
        """See `ActionNoise.draw`."""
        law = generator.logistic if self._bernoulli else generator.gumbel
        return law(size=self.size).astype(np.float32)

    def __call__(self, output: Float32Array, draws: Float32Array) -> Any:
        """See `ActionNoise.__call__`."""
        return self.head(output + draws)


class DiagonalGaussianNoise:
    """Sample from the Gaussian that a `GaussianHead` means: `mean + exp(log_std) * N(0, 1)`, cut to the bounds."""

    def __init__(self, head: GaussianHead) -> None:
        self.head, self.size = head, head.mean.size

    def draw(self, generator: np.random.Generator) -> Float32Array:
        """See `ActionNoise.draw`."""
        return generator.standard_normal(self.size, np.float32)

    def __call__(self, output: Float32Array, draws: Float32Array) -> Any:
        """See `ActionNoise.__call__`."""
        return self.head.mean(output[..., : self.size] + np.exp(output[..., self.size :]) * draws)


class CompositeNoise:
    """Each part of a Dict or Tuple by its own noise; a part without any acts by its head."""

    def __init__(self, head: CompositeHead, noises: list[ActionNoise | None]) -> None:
        self.head, self.noises = head, noises
        self.parts = slices([0 if noise is None else noise.size for noise in noises])
        self.size = self.parts[-1].stop

    def draw(self, generator: np.random.Generator) -> Float32Array:
        """See `ActionNoise.draw`."""
        return np.concatenate([noise.draw(generator) for noise in self.noises if noise is not None])

    def __call__(self, output: Float32Array, draws: Float32Array) -> Any:
        """See `ActionNoise.__call__`."""
        rows = zip(self.noises, self.head.each, self.head.parts, self.parts, strict=True)
        return self.head.together(
            [
                head(output[..., out]) if noise is None else noise(output[..., out], draws[..., own])
                for noise, head, out, own in rows
            ]
        )


GivenNoise = str | ActionNoise | Callable[[gym.Space[Any], Head], ActionNoise]


def make_action_noise(space: gym.Space[Any], head: Head, given: GivenNoise) -> ActionNoise:
    """Return the noise that `given` names or is, for the parts of the space that can take it.

    Args:
        space: The action space.
        head: The head of that space.
        given: "gaussian:STD": on each component of a Box, in units of the action; "epsilon:P": for choices (Discrete,
            MultiDiscrete, MultiBinary, a Box with values to choose from), a random one with probability P; "sample":
            choices by their scores, a Box with `box_head="gaussian"` by its mean and deviation. Or an `ActionNoise` of
            your own, or a function of space and head that makes one.

    Raises:
        ValueError: If `given` is none of these, or no part of the space can take it.

    Example:
        >>> from torch_es.heads.choices import make_head
        >>> space = gym.spaces.Discrete(3)
        >>> make_action_noise(space, make_head(space), "epsilon:0.1").epsilon
        0.1
    """
    if not isinstance(given, str):
        return given if hasattr(given, "draw") else given(space, head)  # type: ignore[return-value]
    noise = _make(space, head, _parse(given))
    if noise is None:
        raise ValueError(
            f"`action_noise` {given!r} does not apply to {space}: gaussian is for a Box, epsilon and sample for "
            "choices, sample also for a Box with `box_head=gaussian`."
        )
    return noise


_Kind = Callable[[gym.Space[Any], Head], ActionNoise | None]


def _parse(given: str) -> _Kind:
    kind, _, number = given.partition(":")
    with suppress(ValueError):
        if given == "sample":
            return _sample
        if kind == "gaussian" and 0 < float(number) < np.inf:
            return lambda space, head: (
                GaussianNoise(space, head, float(number)) if isinstance(space, gym.spaces.Box) else None
            )
        if kind == "epsilon" and 0 < float(number) <= 1:
            return lambda space, head: EpsilonNoise(head, float(number)) if _chooses(space, head) else None
    raise ValueError(
        "`action_noise` must be gaussian:STD with STD above 0, epsilon:P with P in (0, 1], or sample, "
        f"got {given!r}; leave it out for none."
    )


def _sample(space: gym.Space[Any], head: Head) -> ActionNoise | None:
    if isinstance(head, GaussianHead):
        return DiagonalGaussianNoise(head)
    return ScoreNoise(head) if _chooses(space, head) else None


def _chooses(space: gym.Space[Any], head: Head) -> bool:
    return not isinstance(space, gym.spaces.Box) or isinstance(head, BinnedHead)


def _make(space: gym.Space[Any], head: Head, kind: _Kind) -> ActionNoise | None:
    if isinstance(head, CompositeHead):
        spaces = space.spaces.values() if isinstance(space, gym.spaces.Dict) else space.spaces  # type: ignore[attr-defined]
        noises = [_make(part, own, kind) for part, own in zip(spaces, head.each, strict=True)]
        return CompositeNoise(head, noises) if any(noise is not None for noise in noises) else None
    return kind(space, head)
