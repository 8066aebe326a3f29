"""What an evaluator needs from whatever plays tasks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from torch_es.checks import described
from torch_es.nn.observation_norm import Statistics
from torch_es.search.low_rank import Factors, LowRank
from torch_es.search.perturbation import Perturbation, Unperturbed
from torch_es.types import CENTRE, EpisodeResult, Float64Array, Task

ROUNDS = 16  # steps of all lanes after which control returns to the evaluator

Behaviour = Callable[[Any, dict[str, Any]], Any]
"""`behaviour(observation, info)` returns numbers that describe how an episode ended."""


def as_numbers(answer: object) -> Float64Array:
    """Return what a `Behaviour` answered, flat.

    Raises:
        TypeError: If it is not made of numbers.

    Example:
        >>> as_numbers([1, True])
        array([1., 1.])
    """
    array = np.asarray(answer)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"`behaviour` must return numbers, got {described(answer)}.")
    return np.array(array, np.float64).ravel()


class Snapshot(NamedTuple):
    """All that an evaluation of a generation depends on, besides seeds; frozen while the generation runs.

    Attributes:
        theta: The centre, flat, shape `(dim,)`.
        perturbation: Makes the members.
        statistics: Mean and floored standard deviation of the observations, or None without normalisation.
        max_steps: Cap of the members' episodes, or None.
    """

    theta: Tensor
    perturbation: Perturbation
    statistics: Statistics | None = None
    max_steps: int | None = None

    @property
    def searches_actions(self) -> bool:
        """Whether members differ by their actions alone, so that each brings the score of its actions back."""
        return isinstance(self.perturbation, Unperturbed)

    def own(self) -> Snapshot:
        """Return a copy for one player: a perturbation keeps scratch memory, which threads must not share."""
        return self._replace(perturbation=copy.copy(self.perturbation))

    def weights(self, member: int, out: Tensor) -> Tensor:
        """Return a member's weights `(dim,)`, or the centre's, written to `out` or as they are stored."""
        return self.theta if member == CENTRE else self.perturbation.member(self.theta, member, out)

    def factors(self, member: int) -> Factors:
        """Return a member's weights, or the centre's, without the vector of them; of noise of low rank alone."""
        assert isinstance(self.perturbation, LowRank)
        return self.perturbation.factors(self.theta, member)

    def draws(self, members: Sequence[int], device: torch.device) -> Tensor:
        """Return how some members differ from the centre; see `LowRank.draws`."""
        assert isinstance(self.perturbation, LowRank)
        return self.perturbation.draws(members, device)


class Player(Protocol):
    """Plays tasks in its own process, one after another or many at once."""

    num_lanes: int

    @property
    def steps(self) -> int:
        """How often it has stepped so far, all lanes at once; if this stands still for long, it hangs."""
        ...

    @property
    def outstanding(self) -> int:
        """How many submitted tasks have no result yet."""
        ...

    def begin(self, snapshot: Snapshot) -> None:
        """Play what follows with this snapshot."""
        ...

    def submit(self, task: Task) -> None:
        """Take a task; it starts when a lane is free."""
        ...

    def advance(self, interrupt: Callable[[], bool] = lambda: False) -> list[EpisodeResult]:
        """Return what is done, as soon as a task is; or after `ROUNDS` steps, or `interrupt()` while a lane is free."""
        ...

    def close(self) -> None:
        """Close the environments."""
        ...
