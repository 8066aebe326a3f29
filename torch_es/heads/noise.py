"""Noise on actions: Gaussian, epsilon-random choices, or samples of the distribution that a head describes.

Each episode of a member has a random stream of its own, so its draws are the same wherever it is played. A draw of
zeros is no noise. The centre's episodes, played beside noisy members in the same batch, get zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as torch names it

from torch_es.heads.boxes import BinnedHead, ClipHead, GaussianHead
from torch_es.heads.choices import CompositeHead, MultiBinaryHead, MultiDiscreteHead, slices
from torch_es.heads.protocol import Head
from torch_es.spaces.layout import parts
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


@dataclass
class Noise:
    """An `ActionNoise` of this library.

    Attributes:
        size: Random numbers of one action.
        draw: Returns them, `(size,)`, from a generator.
        act: Returns actions for outputs and draws.
        log_probability: Returns the sum over steps of the log-density of the actions that draws `(steps, size)` make
            of outputs `(steps, head.size)`, up to a constant; None if it does not depend on the outputs.
    """

    size: int
    draw: Callable[[np.random.Generator], Float32Array]
    act: Callable[[Float32Array, Float32Array], Any]
    log_probability: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, output: Float32Array, draws: Float32Array) -> Any:
        """See `ActionNoise`."""
        return self.act(output, draws)


def _gaussian(head: Head, space: gym.spaces.Box, std: float) -> Noise:
    """Add `std * N(0, 1)` to each component of a Box's action, then cut it to the bounds."""
    clip = ClipHead(space)

    def log_probability(output: Tensor, draws: Tensor) -> Tensor:
        mean: Tensor = head(output).flatten(1)
        deviations = ((mean + draws).detach() - mean) / std
        return -deviations.square().sum() / 2

    return Noise(
        clip.size,
        draw=lambda generator: np.float32(std) * generator.standard_normal(clip.size, np.float32),
        act=lambda output, draws: clip.forward(head(output).reshape(draws.shape) + draws),
        log_probability=log_probability,
    )


def _own_gaussian(head: GaussianHead) -> Noise:
    """Sample from the Gaussian that the outputs describe: `mean + exp(log_std) * N(0, 1)`, cut to the bounds."""
    size = head.mean.size

    def log_probability(output: Tensor, draws: Tensor) -> Tensor:
        mean, log_std = output[:, :size], output[:, size:]
        sampled = (mean + log_std.exp() * draws).detach()
        return -((((sampled - mean) / log_std.exp()).square() / 2) + log_std).sum()

    return Noise(
        size,
        draw=lambda generator: generator.standard_normal(size, np.float32),
        act=lambda output, draws: head.mean.forward(output[..., :size] + np.exp(output[..., size:]) * draws),
        log_probability=log_probability,
    )


def _epsilon(head: Head, epsilon: float) -> Noise:
    """With probability `epsilon`, make every choice of an action at random."""

    def draw(generator: np.random.Generator) -> Float32Array:
        scores = generator.random(1 + head.size, np.float32) - np.float32(0.5)  # to choose by, symmetric about zero
        scores[0] = generator.random() < epsilon
        return scores

    return Noise(1 + head.size, draw, lambda output, draws: head(np.where(draws[..., :1] > 0, draws[..., 1:], output)))


def _sampled(head: Any) -> Noise:
    """Sample a choice by its scores: a categorical by Gumbel noise on them, a Bernoulli by logistic noise."""
    bernoulli = isinstance(head, MultiBinaryHead)

    def draw(generator: np.random.Generator) -> Float32Array:
        law = generator.logistic if bernoulli else generator.gumbel
        return np.asarray(law(size=head.size), np.float32)

    def log_probability(scores: Tensor, draws: Tensor) -> Tensor:
        noisy = (scores + draws).detach()
        if bernoulli:
            return F.logsigmoid(torch.where(noisy > 0, scores, -scores)).sum()
        if isinstance(head, MultiDiscreteHead):
            choices = [(scores[:, part], noisy[:, part]) for part in head.parts]
        else:
            count = head.count if isinstance(head, BinnedHead) else head.size
            choices = [(scores.reshape(-1, count), noisy.reshape(-1, count))]
        return torch.stack([-F.cross_entropy(own, it.argmax(-1), reduction="sum") for own, it in choices]).sum()

    return Noise(head.size, draw, lambda output, draws: head(output + draws), log_probability)


def _none(head: Head) -> Noise:
    """Act by the head alone: a part of a Dict or Tuple to which the noise does not apply."""
    return Noise(0, lambda _: np.empty(0, np.float32), lambda output, _: head(output), lambda *_: torch.zeros(()))


def _composite(head: CompositeHead, noises: list[Noise]) -> Noise:
    """Give each part of a Dict or Tuple its own noise."""
    spans = slices([noise.size for noise in noises])
    rows = list(zip(noises, head.parts, spans, strict=True))
    laws = [(noise.log_probability, out, own) for noise, out, own in rows if noise.log_probability is not None]

    def log_probability(output: Tensor, draws: Tensor) -> Tensor:
        return torch.stack([law(output[:, out], draws[:, own]) for law, out, own in laws]).sum()

    return Noise(
        spans[-1].stop,
        draw=lambda generator: np.concatenate([noise.draw(generator) for noise in noises]),
        act=lambda output, draws: head.together([n.act(output[..., out], draws[..., own]) for n, out, own in rows]),
        log_probability=log_probability if len(laws) == len(rows) else None,
    )


GivenNoise = str | ActionNoise | Callable[[gym.Space[Any], Head], ActionNoise]


def make_action_noise(space: gym.Space[Any], head: Head, given: GivenNoise) -> ActionNoise:
    """Return the noise that `given` names or is, for the parts of the space that can take it.

    Args:
        space: The action space.
        head: The head of that space.
        given: "gaussian:STD" adds Gaussian noise to each component of a Box, in units of the action; Salimans et al.
            2017's released code adds 0.01. "epsilon:P" makes choices (Discrete, MultiDiscrete, MultiBinary, a Box with
            values to choose from) at random with probability P. "sample" draws choices by their scores, and a Box with
            `box_head="gaussian"` by its mean and deviation. Or an `ActionNoise` of your own, or a function of space
            and head that makes one.

    Raises:
        ValueError: If `given` is none of these, no part of the space can take it, or it does not draw as many numbers
            as its `size` says.

    Example:
        >>> from torch_es.heads.choices import make_head
        >>> space = gym.spaces.Discrete(3)
        >>> make_action_noise(space, make_head(space), "sample").draw(np.random.default_rng(0)).round(1)
        array([-0. ,  1.2,  3.2], dtype=float32)
    """
    if hasattr(given, "draw"):
        return _own(given)  # type: ignore[arg-type]
    if callable(given):
        return _own(given(space, head))
    kind, _, text = str(given).partition(":")
    number = np.nan
    with suppress(ValueError):
        number = float(text)
    valid = {"gaussian": 0 < number < np.inf, "epsilon": 0 < number <= 1, "sample": given == "sample"}
    if not valid.get(kind):
        raise ValueError(
            "`action_noise` must be gaussian:STD with STD above 0, epsilon:P with P in (0, 1], or sample, "
            f"got {given!r}; leave it out for none."
        )
    noise = _make(space, head, kind, number)
    if not noise.size:
        raise ValueError(
            f"`action_noise` {given!r} does not apply to {space}: gaussian is for a Box, epsilon and sample for "
            "choices, sample also for a Box with `box_head=gaussian`."
        )
    return noise


def _own(noise: ActionNoise) -> ActionNoise:
    """Return a noise of the user's own, after a check that it draws as many numbers as it says."""
    shape = np.shape(noise.draw(np.random.default_rng(0)))
    if shape != (noise.size,):
        raise ValueError(f"`action_noise` must draw {noise.size} numbers, as its `size` says, got the shape {shape}.")
    return noise


def _make(space: gym.Space[Any], head: Head, kind: str, number: float) -> Noise:
    if isinstance(head, CompositeHead):
        within = zip(parts(space).values(), head.each, strict=True)
        return _composite(head, [_make(part, own, kind, number) for part, own in within])
    if kind == "gaussian" and isinstance(space, gym.spaces.Box):
        return _gaussian(head, space, number)
    if kind == "sample" and isinstance(head, GaussianHead):
        return _own_gaussian(head)
    if kind == "gaussian" or (isinstance(space, gym.spaces.Box) and not isinstance(head, BinnedHead)):
        return _none(head)
    return _epsilon(head, number) if kind == "epsilon" else _sampled(head)
