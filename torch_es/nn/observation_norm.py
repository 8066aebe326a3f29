"""Observation normalisation as a layer, whose statistics are saved and moved with the network that holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torch_es.checks import check_count, check_positive
from torch_es.nn.buffers import Constants
from torch_es.nn.moments import Moments
from torch_es.spaces.layout import Inputs, Layout
from torch_es.types import Float64Array

Statistics = tuple[Float64Array, Float64Array]  # mean and standard deviation, (size,) each


class ObservationNorm(Constants):
    """Subtracts the running mean of all observations of training, and divides by their running standard deviation.

    Put it first in a network. `ES` finds it, keeps its statistics fixed while a generation plays, and updates them
    between generations. Nothing else changes them, so the network acts as it was evaluated, wherever it is loaded.
    Limit and floor default to those of Salimans et al. 2017's released code: observations within [-5, 5], variance at
    least 1e-2.

    Args:
        observations: Elements of one observation, or its space. Observations of a Dict or Tuple need the space.
        limit: Normalised elements are cut to [-limit, limit].
        floor: The smallest standard deviation.
        measured: Bool array `(size,)`: the elements to normalise; the others pass as they are. By default all
            measurements of the space, see `Layout`; from a number of elements alone, `ES` takes its environment's.

    Example:
        >>> norm = ObservationNorm(2)
        >>> norm.update(Moments.of(np.array([[0.0, 0.0], [2.0, 20.0]])))
        >>> norm(torch.tensor([1.0, 20.0]))
        tensor([0., 1.])
    """

    count: Tensor
    mean: Tensor
    m2: Tensor
    measured: Tensor

    def __init__(
        self,
        observations: int | gym.Space[Any],
        limit: float = 5.0,
        floor: float = 0.1,
        measured: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__()
        self.layout = Layout(observations) if isinstance(observations, gym.Space) else None
        self.size = check_count("observations", observations) if self.layout is None else self.layout.size
        self.limit, self.floor = check_positive("limit", limit), check_positive("floor", floor)
        self.dtype = torch.get_default_dtype()  # of what it answers
        self.by_kind = measured is None  # which elements are measured follows from the space
        if measured is None:
            measured = np.ones(self.size, bool) if self.layout is None else self.layout.measured
        elif np.shape(measured) != (self.size,):
            raise ValueError(f"`measured` must have shape ({self.size},), got {np.shape(measured)}.")
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(self.size, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(self.size, dtype=torch.float64))
        self.register_buffer("measured", torch.tensor(measured, dtype=torch.bool))

    @property
    def scale(self) -> Statistics:
        """Mean and floored standard deviation, `(size,)` each; 0 and 1 for what is not measured."""
        moments, measured = self.moments, self.measured.numpy()
        return np.where(measured, moments.mean, 0.0), np.where(measured, moments.std(self.floor), 1.0)

    @property
    def limits(self) -> Float64Array:
        """What each element is cut to, `(size,)`; infinity for what is not measured."""
        return np.where(self.measured.numpy(), self.limit, np.inf)

    @property
    def moments(self) -> Moments:
        """The statistics, copied out."""
        return Moments(float(self.count), self.mean.numpy().copy(), self.m2.numpy().copy())

    def update(self, moments: Moments) -> None:
        """Merge more samples into the statistics, exactly."""
        merged = self.moments.merge(moments)
        self.count.fill_(merged.count)
        self.mean.copy_(torch.from_numpy(np.where(self.measured.numpy(), merged.mean, 0.0)))
        self.m2.copy_(torch.from_numpy(merged.m2))

    def freeze(self, mean: Float64Array, std: Float64Array) -> None:
        """Normalise by a mean and a standard deviation, `(size,)` each, which are all that is left of the samples."""
        self.count.fill_(1.0)
        self.mean.copy_(torch.from_numpy(mean))
        self.m2.copy_(torch.from_numpy(std**2))

    def forward(self, observation: Inputs) -> Inputs:
        """Normalise observations `(batch, *shape)`, or a dict or tuple of them; computed in float64."""
        if self.layout is not None:
            return self.layout.inputs(self._normalized(self.layout.joined(observation)))
        if not isinstance(observation, Tensor):
            raise TypeError(
                "ObservationNorm must be made with the observation space, `ObservationNorm(env.observation_space)`, "
                f"to take a {type(observation).__name__}."
            )
        if observation.shape[-1:] == self.mean.shape:
            return self._normalized(observation)
        return self._normalized(observation.flatten(1)).reshape(observation.shape)

    def _normalized(self, rows: Tensor) -> Tensor:
        rows = rows.double()
        std = (self.m2 / self.count.clamp(min=1)).sqrt().clamp(min=self.floor)
        std = torch.where(self.count > 0, std, torch.ones_like(std))
        normalized = ((rows - self.mean) / std).clip(-self.limit, self.limit)
        return torch.where(self.measured, normalized, rows).to(self.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Answer in another dtype after `half()` or `double()`, by the same statistics."""
        self.dtype = fn(torch.empty(1, dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        """Say its size."""
        return f"{self.size}, limit={self.limit:g}, floor={self.floor:g}"


def find_norm(network: nn.Module) -> ObservationNorm | None:
    """Return the observation norm of a network, if it holds one.

    Raises:
        ValueError: If it holds several.

    Example:
        >>> find_norm(nn.Sequential(ObservationNorm(3), nn.Linear(3, 2)))
        ObservationNorm(3, limit=5, floor=0.1)
    """
    found = {name: layer for name, layer in network.named_modules() if isinstance(layer, ObservationNorm)}
    if len(found) > 1:
        raise ValueError(f"`policy` must hold one ObservationNorm at most, got several, at {', '.join(found)}.")
    return next(iter(found.values()), None)


def normalize(rows: npt.NDArray[Any], scale: Statistics, limits: Float64Array) -> Float64Array:
    """Return rows `(batch, size)` as an `ObservationNorm` answers them, in float64.

    Example:
        >>> normalize(np.array([9.0]), (np.array([1.0]), np.array([1.0])), np.array([5.0]))
        array([5.])
    """
    normalized: Float64Array = ((rows - scale[0]) / scale[1]).clip(-limits, limits)
    return normalized
