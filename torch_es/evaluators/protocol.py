"""What the trainer needs from an evaluator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from torch_es.rollout import Objective, Snapshot
from torch_es.search.perturbation import Noisy
from torch_es.types import EpisodeResult, Float64Array, Metrics, Task

NextTasks = Callable[[], tuple[Task, ...] | None]
"""Returns tasks to play side by side (a pair); `()` if there is nothing to do now, so that the evaluator asks again
after the next result; None if there will be no more tasks."""


class Evaluator(Protocol):
    """Plays tasks somewhere; the results depend only on the tasks and the snapshot."""

    @property
    def metrics(self) -> Metrics:
        """What each generation logs of the workers, such as how many were replaced so far."""
        ...

    attend: Callable[[], None]
    """Called at least every second while episodes are played; an exception that it raises ends the playing."""

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """Yield results as they come in.

        `next_tasks()` is asked whenever there is room, and after every result. The iteration ends when it has answered
        None and nothing is being played.
        """
        ...

    def noise_sum(self, noise: Noisy, linear: Float64Array, squared: Float64Array | None = None) -> Tensor:
        """Compute the sums of an update; see `torch_es.search.perturbation.Summation`.

        Without workers for it, return `torch_es.search.perturbation.serial_sum(noise, linear, squared)`.
        """
        ...

    def close(self) -> None:
        """End everything that was started."""
        ...


EvaluatorFactory = Callable[[Objective, Snapshot], Evaluator]
"""Makes an evaluator of an objective, given a snapshot like those to come: sizes of shared memory follow from it."""
