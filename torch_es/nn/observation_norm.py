"""Observation normalisation that lives in the policy, so that its statistics are saved and moved with the weights."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torch_es.checks import check_count, check_positive
from torch_es.nn.moments import Moments
from torch_es.types import Float64Array

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray[Any, Any], Tensor)


def normalize(
    observation: ArrayOrTensor, mean: ArrayOrTensor, std: ArrayOrTensor, limit: ArrayOrTensor
) -> ArrayOrTensor:
    """Return `(observation - mean) / std` cut to [-limit, limit]; the same code for arrays and tensors.

    Example:
        >>> normalize(np.array([9.0]), np.array([1.0]), np.array([1.0]), np.array([5.0]))
        array([5.])
    """
    normalized: ArrayOrTensor = ((observation - mean) / std).clip(-limit, limit)
    return normalized


class ObservationNorm(nn.Module):
    """Subtract the running mean and divide by the running standard deviation of all observations of training.

    The statistics change only by `update`, between generations; acting and evaluating never change them. Limit and
    floor default to those of Salimans et al. 2017's released code: observations within [-5, 5], variance at least 1e-2.

    Args:
        size: Elements of one observation.
        limit: Normalised observations are cut to [-limit, limit].
        floor: The least standard deviation.
        measured: Bool array `(size,)`: which elements to normalise, all by default; the others pass as they are.

    Example:
        >>> norm = ObservationNorm(2)
        >>> norm.update(Moments.of(np.array([[0.0, 0.0], [2.0, 20.0]])))
        >>> norm(torch.tensor([1.0, 20.0]))
        tensor([0., 1.], dtype=torch.float64)
    """

    count: Tensor
    mean: Tensor
    m2: Tensor

    def __init__(
        self, size: int, limit: float = 5.0, floor: float = 0.1, measured: npt.NDArray[np.bool_] | None = None
    ) -> None:
        super().__init__()
        size = check_count("size", size)
        self.floor = check_positive("floor", floor)
        self.measured = np.ones(size, bool) if measured is None else measured
        self.limit = np.where(self.measured, check_positive("limit", limit), np.inf)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(size, dtype=torch.float64))

    @property
    def scale(self) -> tuple[Float64Array, Float64Array]:
        """Mean and floored standard deviation, `(size,)` each; 0 and 1 for what is not measured."""
        moments = self.moments
        return moments.mean, np.where(self.measured, moments.std(self.floor), 1.0)

    @property
    def moments(self) -> Moments:
        """The statistics, copied out."""
        return Moments(float(self.count), self.mean.numpy().copy(), self.m2.numpy().copy())

    def update(self, moments: Moments) -> None:
        """Merge more samples into the statistics, exactly."""
        merged = self.moments.merge(moments)
        self.count.fill_(merged.count)
        self.mean.copy_(torch.from_numpy(np.where(self.measured, merged.mean, 0.0)))
        self.m2.copy_(torch.from_numpy(merged.m2))

    def forward(self, observation: Tensor) -> Tensor:
        """Normalise observations `(..., size)`, in float64."""
        std = (self.m2 / self.count.clamp(min=1)).sqrt().clamp(min=self.floor)
        measured, limit = torch.from_numpy(self.measured), torch.from_numpy(self.limit)
        std = torch.where((self.count > 0) & measured, std, torch.ones_like(std))
        return normalize(observation.double(), self.mean, std, limit)
