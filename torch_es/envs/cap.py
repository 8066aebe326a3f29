"""Caps on the length of the members' episodes, which follow from the generation before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Cap(Protocol):
    """A rule for the cap; it does not change while a generation runs, and never caps the centre's episodes."""

    @property
    def first(self) -> int | None:
        """The cap in the first generation, or None for none."""
        ...

    def following(self, cap: int | None, lengths: npt.NDArray[Any], truncated: npt.NDArray[np.bool_]) -> int | None:
        """Return the cap in the next generation.

        Args:
            cap: In the generation just played.
            lengths: Steps of its members' episodes.
            truncated: Which of these a time limit ended.
        """
        ...


@dataclass(frozen=True)
class MeanCap:
    """`ratio` times the mean length in the last generation (Salimans et al. 2017, section 2.1, with a ratio of 2).

    Example:
        >>> MeanCap(2.0).following(None, np.array([20, 40]), np.array([False, False]))
        60
    """

    ratio: float
    first: int | None = None

    def __post_init__(self) -> None:
        if not 1 < self.ratio < np.inf:
            raise ValueError(f"`ratio` must be above 1 and finite, got {self.ratio}.")

    def following(self, cap: int | None, lengths: npt.NDArray[Any], truncated: npt.NDArray[np.bool_]) -> int | None:
        """See `Cap.following`."""
        return max(1, int(self.ratio * np.mean(lengths)))


@dataclass(frozen=True)
class AdaptiveCap:
    """`first`, times `ratio` after each generation in which at least the share `threshold` of the episodes hit it.

    The rule of Salimans et al. 2017's released code. Without a threshold the cap stays as it is.

    Example:
        >>> AdaptiveCap(50, 0.5, 1.5).following(50, np.array([50, 20]), np.array([True, False]))
        75
    """

    first: int
    threshold: float = np.inf
    ratio: float = 2.0

    def __post_init__(self) -> None:
        if self.first < 1:
            raise ValueError(f"`first` must be at least 1, got {self.first}.")
        if not (0 < self.threshold <= 1 or self.threshold == np.inf):
            raise ValueError(f"`threshold` must be a share in (0, 1], got {self.threshold}.")
        if not 1 < self.ratio < np.inf:
            raise ValueError(f"`ratio` must be above 1 and finite, got {self.ratio}.")

    def following(self, cap: int | None, lengths: npt.NDArray[Any], truncated: npt.NDArray[np.bool_]) -> int | None:
        """See `Cap.following`."""
        hit = np.mean(truncated & (lengths == cap))
        return max(1 + (cap or 0), int(self.ratio * (cap or 0))) if hit >= self.threshold else cap


def make_cap(text: str) -> Cap:
    """Return the cap that a short name stands for: members:N, mean:R or adaptive:LIMIT,THRESHOLD,RATIO.

    Raises:
        ValueError: If it is none of these, or a number is out of its range.

    Example:
        >>> make_cap("mean:2")
        MeanCap(ratio=2.0, first=None)
    """
    kind, _, numbers = text.partition(":")
    try:
        values = [float(number) for number in numbers.split(",")]
        if kind == "mean" and len(values) == 1:
            return MeanCap(values[0])
        if (kind, len(values)) in (("members", 1), ("adaptive", 3)):
            return AdaptiveCap(int(values[0]), *values[1:])
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        "`max_steps` must be a number, members:N, mean:R with R above 1, adaptive:LIMIT,THRESHOLD,RATIO with a "
        f"limit of at least 1, a threshold in (0, 1] and a ratio above 1, or a `Cap`; got {text!r}."
    )
