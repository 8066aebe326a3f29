"""The one interface that evaluators know of whoever plays tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch_es.search.noise import Noise
from torch_es.types import EpisodeResult, Snapshot, Task

ROUNDS = 16  # steps of all lanes after which whoever has them played looks about


class Player(Protocol):
    """Plays tasks one after another or many at once, in the process it stands in."""

    noise: Noise
    num_lanes: int

    @property
    def steps(self) -> int:
        """How often it stepped so far, all lanes at once; what stands still for long hangs."""
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
        """Let go of the environments."""
        ...
