"""Observation normalisation of all lanes in place, and the sums of what each has seen."""

from __future__ import annotations

import numpy as np

from torch_es.nn.observation_norm import Statistics
from torch_es.types import Float64Array


class Normalizer:
    """`normalize` for the lanes, in place, and the sums of what each lane has seen.

    With arrays of a few hundred numbers, allocations and Python calls are what costs, so there are few of them.
    """

    def __init__(self, num_lanes: int, size: int, limit: Float64Array) -> None:
        self._limit, self._lowest = limit, -limit
        self.sums = np.zeros((num_lanes, 2 * size))
        self._first, self._second = self.sums[:, :size], self.sums[:, size:]
        self._x, self._square = np.empty((num_lanes, size)), np.empty((num_lanes, size))
        self._frozen: Statistics | None = None

    def begin(self, statistics: Statistics) -> None:
        """Normalise what follows by these statistics."""
        self._frozen = statistics

    def __call__(self, observations: Float64Array) -> Float64Array:
        """Return all lanes' observations, normalised, in a buffer that the next call overwrites, and count them."""
        assert self._frozen is not None
        mean, std = self._frozen
        x = np.subtract(observations, mean, out=self._x)
        self._first += x
        self._second += np.multiply(x, x, out=self._square)
        np.divide(x, std, out=x)
        np.minimum(x, self._limit, out=x)
        return np.maximum(x, self._lowest, out=x)
