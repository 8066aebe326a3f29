"""Running mean and variance that merge exactly, in float64 (Chan, Golub and LeVeque 1983)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from torch_es.types import Float64Array


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of vectors `(size,)`.

    Example:
        >>> Moments.of(np.array([[1.0], [3.0]])).merge(Moments.of(np.array([[5.0]]))).mean
        array([3.])
    """

    count: float
    mean: Float64Array
    m2: Float64Array

    @staticmethod
    def zero(size: int) -> Moments:
        """The moments of no samples."""
        return Moments(0.0, np.zeros(size), np.zeros(size))

    @staticmethod
    def of(samples: Float64Array) -> Moments:
        """The moments of `samples`, shape `(count, size)`."""
        mean = samples.mean(axis=0)
        return Moments(float(len(samples)), mean, ((samples - mean) ** 2).sum(axis=0))

    @staticmethod
    def of_episodes(counts: npt.NDArray[Any], sums: Float64Array, origin: Float64Array) -> Moments:
        """Merge the episodes of a generation in their order, so that the bits do not depend on who played them.

        Args:
            counts: Samples of each episode, `(episodes,)`.
            sums: Of each episode, the sum and the sum of squares of the samples minus `origin`,
                `(episodes, 2 * size)`.
            origin: A point near the mean, so that the subtraction below does not cancel; `(size,)`.
        """
        size, lengths = origin.size, counts[:, None].astype(np.float64)
        total, squares = sums[:, :size], sums[:, size:]
        means, m2s = origin + total / lengths, np.maximum(squares - total**2 / lengths, 0.0)
        count, mean, m2 = 0.0, np.zeros(size), np.zeros(size)
        delta = np.empty(size)
        for own, own_mean, own_m2 in zip(counts.tolist(), means, m2s, strict=True):  # `merge` without its copies
            before, count = count, count + own
            np.subtract(own_mean, mean, out=delta)
            mean += delta * (own / count)
            m2 += own_m2
            m2 += np.multiply(delta, delta, out=delta) * (before * own / count)
        return Moments(count, mean, m2)

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of samples together."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta**2 * (self.count * other.count / count)
        return Moments(count, mean, m2)

    def std(self, floor: float) -> Float64Array:
        """Standard deviation, at least `floor`; one everywhere before the first sample."""
        if self.count == 0:
            return np.ones_like(self.mean)
        return np.maximum(np.sqrt(self.m2 / self.count), floor)
