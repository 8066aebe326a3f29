"""The reference evaluator: everything is played in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from threadpoolctl import ThreadpoolController
from torch import Tensor

from torch_es.evaluators.protocol import NextTasks
from torch_es.evaluators.tolerance import EndlessWarning, nothing
from torch_es.rollout import FunctionObjective, Objective, Snapshot
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
        # Between products as small as a policy's, a second thread of NumPy's waits busily, on a core that torch's
        # threads need: a game of Pong took 13 times as long. A user's own function may need all threads.
        own = isinstance(objective, FunctionObjective)
        self._blas = ThreadpoolController().select(user_api=[] if own else "blas")
        with self._blas.limit(limits=1):
            self._player = objective.player()

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """See `Evaluator.evaluate`."""
        player = self._player
        player.begin(snapshot)
        ended = player.steps
        tasks: tuple[Task, ...] | None = ()
        while tasks is not None or player.outstanding:
            while player.outstanding < player.num_lanes and (tasks := next_tasks()):
                with self._blas.limit(limits=1):
                    for task in tasks:
                        player.submit(task)
            if player.outstanding:
                with self._blas.limit(limits=1):
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
