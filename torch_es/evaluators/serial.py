"""The reference evaluator: this process, no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from torch_es.evaluators.protocol import NextTasks, PlayerFactory
from torch_es.evaluators.tolerance import EndlessWarning, nothing
from torch_es.search.gradient import serial_noise_sum
from torch_es.types import EpisodeResult, Float64Array, Snapshot


class SerialEvaluator:
    """Plays every task here, so what an environment raises is raised as it is, and its crash is this process's.

    Args:
        player_factory: Makes the player.
    """

    restarts = 0

    def __init__(self, player_factory: PlayerFactory) -> None:
        self.attend: Callable[[], None] = nothing
        self._endless = EndlessWarning()
        self._player = player_factory()
        self._noise_sum = serial_noise_sum(self._player.noise)

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """See `Evaluator.evaluate`."""
        player = self._player
        player.begin(snapshot)
        ended = player.steps
        while True:
            while player.outstanding < player.num_lanes and (tasks := next_tasks()):
                for task in tasks:
                    player.submit(task)
            if not player.outstanding:
                return
            results = player.advance()
            ended = player.steps if results else ended
            self._endless.check(player.steps - ended)
            self.attend()
            yield from results

    def noise_sum(
        self, generation: int, linear: Float64Array, squared: Float64Array | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `torch_es.search.gradient.NoiseSum`."""
        return self._noise_sum(generation, linear, squared)

    def close(self) -> None:
        """Close the environments."""
        self._player.close()
