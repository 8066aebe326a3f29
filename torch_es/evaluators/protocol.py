"""What the trainer knows of whoever runs tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from torch_es.rollout import Objective, Snapshot
from torch_es.search.perturbation import Noisy, Sums
from torch_es.types import EpisodeResult, Float64Array, Task

NextTasks = Callable[[], tuple[Task, ...] | None]
"""Answers tasks that are best played side by side (a pair); `()` while there is nothing to do, so ask again after the
next result; None when nothing will be asked any more."""


class Evaluator(Protocol):
    """Runs tasks somewhere; the results depend on the tasks and the snapshot alone."""

    @property
    def restarts(self) -> int:
        """How many workers were replaced so far."""
        ...

    attend: Callable[[], None]
    """Called now and then while episodes are played, at least every second; playing ends by what it raises."""

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """Yield results as they come in.

        `next_tasks()` is asked whenever there is room, and after every result. The iteration ends when it has answered
        None and nothing is being played.
        """
        ...

    def noise_sum(self, noise: Noisy, linear: Float64Array, squared: Float64Array | None = None) -> Sums:
        """Compute the sums of an update; see `torch_es.search.perturbation.Summation`.

        One that has no workers for it returns `torch_es.search.perturbation.serial_sum(noise, linear, squared)`.
        """
        ...

    def close(self) -> None:
        """End whatever was started."""
        ...


EvaluatorFactory = Callable[[Objective, Snapshot], Evaluator]
"""Makes an evaluator of an objective, given a snapshot like those to come: sizes of shared memory follow from it."""
