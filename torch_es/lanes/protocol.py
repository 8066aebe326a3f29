"""Lanes: one slot for each perturbed copy of a network, all answering in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch_es.nn.observation_norm import Statistics
from torch_es.types import Float32Array

_CACHE_BYTES = 5 * 2**19  # weights of all lanes; beyond it workers wait for memory that they share
MAX_LANES = 16


class Lanes(Protocol):
    """Slots for weights, and their batched forward."""

    def begin(self, reference: Float32Array | None, scale: Statistics | None) -> None:
        """Take what all lanes written from now on share.

        Args:
            reference: Rows `(batch, size)` for what the network prepares.
            scale: What an `ObservationNorm` in the network normalises by.
        """
        ...

    def write(self, lane: int, theta: Any) -> None:
        """Give a lane the weights `theta`, `(dim,)`, fresh buffers and the initial state of an episode.

        Lanes that share the weights take the member's `Factors` instead.
        """
        ...

    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """Return outputs `(num_lanes, size)` for observations as rows; only active lanes' rows count."""
        ...


def default_num_lanes(dim: int) -> int:
    """Return how many lanes of `dim` parameters fit into the cache, from 1 to 16.

    Example:
        >>> default_num_lanes(5_702), default_num_lanes(159_505)
        (16, 4)
    """
    return max(1, min(MAX_LANES, _CACHE_BYTES // (4 * dim)))
