"""The one interface that the trainer knows of whoever runs tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from torch_es.rollout import Player
from torch_es.types import EpisodeResult, Float64Array, Snapshot, Task

PlayerFactory = Callable[[], Player]
NextTasks = Callable[[], tuple[Task, ...] | None]


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

        `next_tasks()` is asked whenever there is room, and after every result; it returns tasks that are best played
        side by side (a pair), or None while there is nothing to do. The iteration ends when there is nothing to do
        and nothing is being played.
        """
        ...

    def noise_sum(
        self, generation: int, linear: Float64Array, squared: Float64Array | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `torch_es.search.gradient.NoiseSum`."""
        ...

    def close(self) -> None:
        """End whatever was started."""
        ...
