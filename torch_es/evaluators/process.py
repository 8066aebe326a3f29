"""Workers in processes of their own (`torch.multiprocessing`, spawn), fed task by task."""

from __future__ import annotations

import contextlib
import logging
import pickle
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from torch_es.checks import check_count
from torch_es.envs.rules import EpisodeRules
from torch_es.errors import WorkerError
from torch_es.evaluators.pickling import dumps
from torch_es.evaluators.protocol import NextTasks, PlayerFactory
from torch_es.evaluators.remote import Ears, Remote, receive
from torch_es.evaluators.resources import check_descriptors, default_num_workers
from torch_es.evaluators.tolerance import TOLERANCE, EndlessWarning, FaultTolerance, nothing
from torch_es.evaluators.wire import FAILED, SUMMED, Board, unpack_results
from torch_es.search.gradient import serial_noise_sum
from torch_es.search.noise import Noise, num_blocks
from torch_es.types import EpisodeResult, Float64Array, Snapshot, Task

_log = logging.getLogger(__name__)

_DESCRIPTORS = 12  # of one worker: its pipes and sentinel here, and what it is started with


class ProcessEvaluator:
    """Plays tasks in worker processes; the results have the same bits for any number of workers.

    A worker that dies or hangs is replaced and its tasks are played again with the same seeds; see `FaultTolerance`.

    Args:
        player_factory: Makes a worker's player, in the worker; anything cloudpickle takes, also from a notebook.
        board: Shared memory of the right size.
        seed: The run's seed.
        num_workers: Processes; by default one for each core this process may use.
        tolerance: Deadlines and retries.
        rules: Of the episodes, to name one that fails.

    Raises:
        TypeError: If a worker cannot be sent what it needs.
        ResourceError: If there are too few file descriptors.
        WorkerError: If a worker cannot start, an environment raises, or workers keep dying.
    """

    def __init__(
        self,
        player_factory: PlayerFactory,
        board: Board,
        seed: int,
        num_workers: int | None = None,
        tolerance: FaultTolerance = TOLERANCE,
        rules: EpisodeRules = EpisodeRules(),
    ) -> None:
        count = default_num_workers() if num_workers is None else check_count("num_workers", num_workers)
        self.restarts = 0
        self.attend: Callable[[], None] = nothing
        self._endless = EndlessWarning()
        self._tolerance, self._rules = tolerance, rules
        self._seed = seed
        self._payload = dumps(player_factory)
        self._board = board
        self._sigma: float | None = None
        self._restarts_left = tolerance.max_restarts
        self._lost: deque[Task] = deque()
        self._losses: Counter[Task] = Counter()
        self._given_up: deque[EpisodeResult] = deque()
        self._noise_sum = serial_noise_sum(Noise(seed, board.theta.numel()))
        self._workers: list[Remote] = []
        self._steps = torch.zeros(count, dtype=torch.int64).share_memory_()  # that each worker took
        self._ears = Ears()
        check_descriptors(_DESCRIPTORS * count)
        try:
            for number in range(count):
                self._workers.append(Remote(number, board, self._steps, self._payload))
            deadline = time.monotonic() + tolerance.start_timeout
            for worker in self._workers:
                self._greet(worker, deadline)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """See `Evaluator.evaluate`."""
        self._sigma = self._board.post(snapshot)
        self._restarts_left = self._tolerance.max_restarts
        self._losses.clear()
        for worker in self._workers:
            worker.send("begin", self._sigma)
        while True:
            self._dispatch(next_tasks)
            if not any(worker.tasks for worker in self._workers):
                return
            for worker, message in self._listen():
                for result in unpack_results(message, 2 * self._board.statistics.shape[1]):
                    if result.task in worker.tasks:  # else an answer to a task that was given again
                        worker.tasks.discard(result.task)
                        yield self._board.with_score(result)
            while self._given_up:
                yield self._given_up.popleft()
            self._endless.check(max(worker.endless() for worker in self._workers))
            self.attend()

    def noise_sum(
        self, generation: int, linear: Float64Array, squared: Float64Array | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `torch_es.search.gradient.NoiseSum`; blocks are shared over the workers."""
        blocks = num_blocks(self._board.theta.numel())
        if blocks == 1:  # done before a worker would have read the request
            return self._noise_sum(generation, linear, squared)
        pending = set(self._workers)
        for i, worker in enumerate(self._workers):
            worker.heard = time.monotonic()
            worker.send("sum", generation, range(i, blocks, len(self._workers)), linear, squared)
        while pending:
            for worker, message in self._listen(pending):
                if message == SUMMED:
                    pending.discard(worker)
            if len(pending) and any(
                w not in self._workers for w in pending
            ):  # one was replaced: its blocks are missing
                return self._noise_sum(generation, linear, squared)
        return self._board.sums[0], None if squared is None else self._board.sums[1]

    def close(self) -> None:
        """End the workers: asked first, killed after a grace; those in the middle of something at once."""
        for worker in self._workers:
            worker.send("stop")
        deadline = time.monotonic() + self._tolerance.stop_timeout
        for worker in self._workers:
            idle = worker.num_lanes and not worker.tasks  # else it is starting, or in the middle of an episode
            if not worker.end(max(deadline - time.monotonic(), 0.0) if idle else 0.0) and idle:
                _log.warning(
                    "Worker %d was killed: its environments did not close within %g s.",
                    worker.number, self._tolerance.stop_timeout,
                )  # fmt: skip
        self._workers = []
        self._ears.close()

    def _dispatch(self, next_tasks: NextTasks) -> None:
        """Give lost tasks again, those lost twice each to a worker that has no other; then new ones where is room."""
        for task in tuple(self._lost):
            alone = self._losses[task] > 1
            worker = self._least_busy()
            if worker is not None and not (alone and worker.tasks):
                self._lost.remove(task)
                self._give(worker, (task,))
                worker.alone = alone
        while not self._lost:
            worker = self._least_busy()
            if worker is None or len(worker.tasks) >= worker.num_lanes or not (tasks := next_tasks()):
                return
            self._give(worker, tasks)

    def _least_busy(self) -> Remote | None:
        open_ = [worker for worker in self._workers if not (worker.alone and worker.tasks)]
        return min(open_, key=lambda w: len(w.tasks), default=None)

    def _give(self, worker: Remote, tasks: tuple[Task, ...]) -> None:
        if not worker.tasks:
            worker.heard = time.monotonic()
        worker.alone = False
        worker.tasks.update(tasks)
        worker.send("play", tasks)

    def _listen(self, busy: set[Remote] | None = None) -> Iterator[tuple[Remote, bytes]]:
        """Yield what workers say, replacing those that died or hang."""
        for worker in self._ears.hear(min(1.0, self._tolerance.task_timeout)):
            message = receive(worker.connection)
            if message is None:
                self._replace(worker, worker.death(), worker.stack())
            elif message[:1] == FAILED:
                self._failed(worker, message)
            else:
                worker.answered()
                yield worker, message
        for worker in list(self._workers):
            working = worker.tasks or (busy is not None and worker in busy)
            if working and worker.silence() > self._tolerance.task_timeout:
                reason = f"was silent for {self._tolerance.task_timeout:g} s and was killed"
                self._replace(worker, reason, worker.stack(ask=True))

    def _failed(self, worker: Remote, message: bytes) -> None:
        """An exception in an environment is the same when tried again, unless memory was short: so it is raised."""
        kind, text, trace, itself = pickle.loads(message[1:])
        cause = _unpickled(itself)
        reason, detail = f"raised {kind}: {text}", f"\n\nIts traceback:\n{trace}"
        if worker.tasks and (self._tolerance.on_failure == "drop_pair" or isinstance(cause, MemoryError)):
            self._replace(worker, reason, detail, cause)
        else:
            raise WorkerError(f"Worker {worker.number} {reason}{detail}") from cause

    def _replace(self, worker: Remote, reason: str, detail: str, cause: BaseException | None = None) -> None:
        """Start another worker in its place; its tasks run again with the same seeds, so nothing changes."""
        tasks = sorted(worker.tasks)
        self._losses.update(tasks)
        self._ears.watch(worker, False)
        worker.end(grace=0.0)
        if len(tasks) == 1 and self._losses[tasks[0]] > self._tolerance.max_retries:
            self._give_up(tasks.pop(), f"worker {worker.number} {reason}{detail}", cause)
        self._lost.extend(tasks)
        named = ", ".join(map(self._name, tasks)) or "none"
        self._spend_restart(
            f"Worker {worker.number} {reason}; no restarts are left. Its tasks: {named}.{detail}", cause
        )
        _log.warning(
            "Worker %d %s; it is replaced (restart %d) and its tasks run again: %s.%s",
            worker.number, reason, self.restarts, named, detail,
        )  # fmt: skip
        fresh = self._fresh(worker.number)
        self._workers[self._workers.index(worker)] = fresh
        fresh.send("begin", self._sigma)
        for other in self._workers:  # which could not be heard meanwhile
            other.heard = time.monotonic()

    def _fresh(self, number: int) -> Remote:
        """Return a worker that is up; one that dies while starting costs a restart."""
        while True:
            fresh = Remote(number, self._board, self._steps, self._payload)
            try:
                self._greet(fresh, time.monotonic() + self._tolerance.start_timeout)
                return fresh
            except _DiedStartingError as error:
                fresh.end(grace=0.0)
                self._spend_restart(f"No restarts are left. {error}", error)
            except BaseException:
                fresh.end(grace=0.0)
                raise

    def _spend_restart(self, message: str, cause: BaseException | None) -> None:
        if self._restarts_left == 0:
            raise WorkerError(message) from cause
        self._restarts_left -= 1
        self.restarts += 1

    def _give_up(self, task: Task, reason: str, cause: BaseException | None) -> None:
        """The task was alone with its worker: it is to blame."""
        tried = f"{self._name(task)} took down a worker {self._losses[task]} times, the last time alone"
        if self._tolerance.on_failure == "raise":
            raise WorkerError(f"{tried}: {reason}", task) from cause
        _log.warning("%s. It has no return, and its pair is dropped: %s", tried, reason)
        self._given_up.append(self._board.with_score(EpisodeResult(task, float("nan"), 0, False, None)))

    def _name(self, task: Task) -> str:
        return self._rules.task_name(self._seed, task)

    def _greet(self, worker: Remote, deadline: float) -> None:
        """Wait until the worker's player stands."""
        if not worker.connection.poll(max(deadline - time.monotonic(), 0.0)):
            late = f"Worker {worker.number} did not come up within {self._tolerance.start_timeout:g} s."
            raise WorkerError(late + worker.stack(ask=True))
        message = receive(worker.connection)
        if message is None:
            raise _DiedStartingError(f"Worker {worker.number} {worker.death()} while starting.{worker.stack()}")
        if message[:1] == FAILED and len(message) > 1:
            self._failed(worker, message)
        worker.num_lanes = message[0]
        self._ears.watch(worker, True)


class _DiedStartingError(WorkerError):
    """A worker died before it was up."""


def _unpickled(itself: bytes) -> BaseException | None:
    """Return the exception that a worker raised, if this process can have it too."""
    with contextlib.suppress(Exception):
        error: BaseException = pickle.loads(itself)
        return error
    return None
