"""The reference evaluator: everything is played in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from threadpoolctl import ThreadpoolController
from torch import Tensor

from torch_es.evaluators.protocol import NextTasks
from torch_es.evaluators.tolerance import EndlessWarning, nothing
from torch_es.rollout import FunctionObjective, Objective, Snapshot
from torch_es.search.low_rank import one_thread
from torch_es.search.perturbation import Noisy, serial_sum
from torch_es.types import EpisodeResult, Float64Array, Task


class SerialEvaluator:
    """Plays every task in this process. An environment's exception arrives unchanged; its crash ends this process.

    Args:
        objective: What is evaluated.
    """

    def __init__(self, objective: Objective) -> None:
        self.metrics: dict[str, float] = {}
        self.attend: Callable[[], None] = nothing
        self._endless = EndlessWarning()
        # A policy has one thread, as in a worker: with more, sums round differently, and a second thread of NumPy's
        # waits busily between small products: a game of Pong took 13 times as long. A user's own function may need all.
        self._own = isinstance(objective, FunctionObjective)
        self._blas = ThreadpoolController().select(user_api="blas")
        with self._threads():
            self._player = objective.player()

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        if self._own:
            yield
        else:
            with self._blas.limit(limits=1), one_thread():
                yield

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """See `Evaluator.evaluate`."""
        player = self._player
        player.begin(snapshot)
        ended = player.steps
        tasks: tuple[Task, ...] | None = ()
        while tasks is not None or player.outstanding:
            while player.outstanding < player.num_lanes and (tasks := next_tasks()):
                with self._threads():
                    for task in tasks:
                        player.submit(task)
            if player.outstanding:
                with self._threads():
                    results = player.advance()
                ended = player.steps if results else ended
                self._endless.check(player.steps - ended)
                self.attend()
                yield from results

    def noise_sum(self, noise: Noisy, linear: Float64Array, squared: Float64Array | None = None) -> Tensor:
        """See `Evaluator.noise_sum`."""
        return serial_sum(noise, linear, squared)

    def close(self) -> None:
        """Close the environments."""
        self._player.close()
