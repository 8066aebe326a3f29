"""Who has which task, and what happens to the tasks of a worker that is lost."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from torch_es.errors import WorkerError
from torch_es.evaluators.protocol import NextTasks
from torch_es.evaluators.tolerance import FaultTolerance
from torch_es.types import EpisodeResult, Task

_log = logging.getLogger(__name__)


class Holder(Protocol):
    """A worker, or a node: `str` names it in a message."""

    num_lanes: int


H = TypeVar("H", bound=Holder)


class Ledger(Generic[H]):
    """Assigns tasks to workers, and assigns those of lost workers again with the same seeds, so that no result changes.

    Args:
        tolerance: How many workers may be lost, and how often one task may lose them.
        name: Names a task in a message.
        chances: How often a task may be lost among others before it is played alone.
    """

    def __init__(self, tolerance: FaultTolerance, name: Callable[[Task], str], chances: int = 1) -> None:
        self.restarts = 0
        self._tolerance, self._name, self._chances = tolerance, name, chances
        self._held: dict[H, set[Task]] = {}
        self._alone: set[H] = set()  # whose one task is suspected of taking workers down
        self._lost: deque[Task] = deque()
        self._losses: Counter[Task] = Counter()
        self._given_up: deque[EpisodeResult] = deque()
        self._restarts_left = tolerance.max_restarts
        self._asked_all = False

    def begin(self) -> None:
        """Start a generation."""
        self._restarts_left = self._tolerance.max_restarts
        self._losses.clear()
        self._asked_all = False

    @property
    def over(self) -> bool:
        """Whether everything that was asked for has been played, and nothing more will be asked."""
        return self._asked_all and not self._lost and not any(self._held.values())

    def held(self, worker: H) -> set[Task]:
        """Return the tasks that a worker has."""
        return self._held.get(worker, set())

    def assign(self, workers: Sequence[H], next_tasks: NextTasks) -> Iterator[tuple[H, tuple[Task, ...]]]:
        """Yield which tasks go to which worker: lost ones again, then new ones while there are free lanes.

        A task that was lost more than `chances` times goes to a worker that has no other, to find the one at fault.
        """
        for task in tuple(self._lost):
            alone = self._losses[task] > self._chances  # F04b
            worker = self._least_busy(workers)
            if worker is not None and not (alone and self.held(worker)):
                self._lost.remove(task)
                yield self._give(worker, (task,), alone)
        while not self._lost:
            worker = self._least_busy(workers)
            if worker is None or self._load(worker) >= 1:
                return
            tasks = next_tasks()
            if not tasks:
                self._asked_all = tasks is None
                return
            yield self._give(worker, tasks, alone=False)

    def _least_busy(self, workers: Sequence[H]) -> H | None:
        free = [worker for worker in workers if not (worker in self._alone and self.held(worker))]
        return min(free, key=self._load, default=None)

    def _load(self, worker: H) -> float:
        return len(self.held(worker)) / worker.num_lanes

    def _give(self, worker: H, tasks: tuple[Task, ...], alone: bool) -> tuple[H, tuple[Task, ...]]:
        (self._alone.add if alone else self._alone.discard)(worker)
        self._held.setdefault(worker, set()).update(tasks)
        return worker, tasks

    def done(self, worker: H, task: Task) -> bool:
        """Note a result; return False if the task was given to another worker meanwhile."""
        if task not in self.held(worker):
            return False
        self._held[worker].discard(task)
        return True

    def lose(self, worker: H, reason: str, detail: str, cause: BaseException | None = None) -> str:
        """Note that a worker is lost, at the cost of a restart; return the names of its tasks, which run again.

        Raises:
            WorkerError: If no restarts are left, or a task took down too many workers and must not be dropped.
        """
        tasks = sorted(self._held.pop(worker, set()))
        self._alone.discard(worker)
        self._losses.update(tasks)
        if len(tasks) == 1 and self._losses[tasks[0]] > self._tolerance.max_retries:  # F04a
            self._give_up(tasks.pop(), f"{worker} {reason}{detail}", cause)
        self._lost.extend(tasks)  # F01
        named = ", ".join(map(self._name, tasks)) or "none"
        self.spend_restart(f"{worker} {reason}; no restarts are left. Its tasks: {named}.{detail}", cause)
        return named

    def spend_restart(self, message: str, cause: BaseException | None) -> None:
        """Count a worker that must be replaced.

        Raises:
            WorkerError: With `message`, if no restarts are left.
        """
        if self._restarts_left == 0:
            raise WorkerError(message) from cause
        self._restarts_left -= 1
        self.restarts += 1

    def _give_up(self, task: Task, reason: str, cause: BaseException | None) -> None:
        """Give up a task that was alone with its worker, so that it is the one at fault."""
        tried = f"{self._name(task)} took down a worker {self._losses[task]} times, the last time alone"
        if self._tolerance.on_failure == "raise":
            raise WorkerError(f"{tried}: {reason}", task) from cause
        _log.warning("%s. It has no return, and its pair is dropped: %s", tried, reason)
        self._given_up.append(EpisodeResult(task, float("nan"), 0, False, None))

    def given_up(self) -> Iterator[EpisodeResult]:
        """Yield a result without a return for each task that was given up."""
        while self._given_up:
            yield self._given_up.popleft()
