"""Worker processes (`torch.multiprocessing`, spawn) that get their tasks one by one."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from torch_es.checks import check_count
from torch_es.errors import WorkerError
from torch_es.evaluators.ledger import Ledger
from torch_es.evaluators.pickling import dumps, unpickled
from torch_es.evaluators.protocol import NextTasks
from torch_es.evaluators.remote import Ears, Remote, receive
from torch_es.evaluators.resources import check_descriptors, default_num_workers
from torch_es.evaluators.tolerance import TOLERANCE, EndlessWarning, FaultTolerance, nothing
from torch_es.evaluators.wire import FAILED, LANES, SUMMED, Board, unpack_results
from torch_es.rollout import Objective, Snapshot
from torch_es.search.perturbation import Noisy, add_chunks, chunks, serial_sum, sum_parts
from torch_es.types import EpisodeResult, Float64Array

_log = logging.getLogger(__name__)

_DESCRIPTORS = 12  # of one worker: its pipes and sentinel here, and what it is started with


class ProcessEvaluator:
    """Plays tasks in worker processes; the results have the same bits for any number of workers.

    A worker that dies or hangs is replaced and its tasks are played again with the same seeds; see `FaultTolerance`.

    Args:
        objective: What is evaluated; sent to the workers by cloudpickle, also from a notebook.
        snapshot: One like those to come; the sizes of shared memory follow from it.
        num_workers: Processes; by default one for each core this process may use.
        tolerance: Deadlines and retries.

    Raises:
        TypeError: If a worker cannot be sent what it needs.
        ResourceError: If there is too little shared memory, or there are too few file descriptors.
        WorkerError: If a worker cannot start, an environment raises, or workers keep dying.
    """

    def __init__(
        self,
        objective: Objective,
        snapshot: Snapshot,
        num_workers: int | None = None,
        tolerance: FaultTolerance = TOLERANCE,
    ) -> None:
        count = default_num_workers() if num_workers is None else check_count("num_workers", num_workers)
        self.attend: Callable[[], None] = nothing
        self._endless = EndlessWarning()
        self._tolerance = tolerance
        self._ledger: Ledger[Remote] = Ledger(tolerance, objective.task_name)
        self._payload = dumps(objective)
        self._board = Board(snapshot)
        self._snapshot = snapshot
        self._posted = b""  # the snapshot as workers are sent it
        self._workers: list[Remote] = []
        self._steps = torch.zeros(count, dtype=torch.int64, device="cpu").share_memory_()  # that each worker took
        self._ears = Ears()
        check_descriptors(_DESCRIPTORS * count)
        try:
            for number in range(count):
                self._workers.append(self._start(number))
            deadline = time.monotonic() + tolerance.start_timeout
            for worker in self._workers:
                if died := self._greet(worker, deadline):
                    raise WorkerError(died)
        except BaseException:
            self.close()
            raise

    @property
    def restarts(self) -> int:
        """How many workers were replaced so far."""
        return self._ledger.restarts

    @property
    def metrics(self) -> dict[str, float]:
        """See `Evaluator.metrics`."""
        return {"es/worker_restarts": float(self.restarts)} if self.restarts else {}

    @property
    def num_lanes(self) -> int:
        """How many tasks all workers together play at once."""
        return sum(worker.num_lanes for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """See `Evaluator.evaluate`."""
        self._post(snapshot)
        moments_size = 2 * len(snapshot.statistics[0]) if snapshot.statistics else 0
        self._ledger.begin()
        while True:
            for worker, tasks in self._ledger.assign(self._workers, next_tasks):
                if len(self._ledger.held(worker)) == len(tasks):  # it had none before
                    worker.heard = time.monotonic()
                worker.send("play", tasks)
            if self._ledger.over:
                return
            for worker, message in self._listen():
                for result in unpack_results(message, moments_size):
                    if self._ledger.done(worker, result.task):
                        yield self._board.with_score(result)
            for result in self._ledger.given_up():
                yield self._board.with_score(result)
            self._endless.check(max((w.endless() for w in self._workers if self._ledger.held(w)), default=0))
            self.attend()

    def noise_sum(self, noise: Noisy, linear: Float64Array, squared: Float64Array | None = None) -> Tensor:
        """See `Evaluator.noise_sum`; the workers share its parts."""
        parts = sum_parts(noise.dim, len(linear))
        # one is done before a worker would have read the request
        sums = None if len(parts) == 1 else self.compute(noise, parts, linear, squared)
        return serial_sum(noise, linear, squared) if sums is None else add_chunks(sums)

    def compute(
        self, noise: Noisy, parts: Sequence[tuple[int, int]], linear: Float64Array, squared: Float64Array | None
    ) -> Tensor | None:
        """Compute parts of a sum, each in its place of `(chunks, 1 or 2, dim)`; None if a worker was lost meanwhile."""
        if not self._posted or noise is not self._snapshot.perturbation:
            self._post(self._snapshot._replace(perturbation=noise))
        pending = set(self._workers)
        for i, worker in enumerate(self._workers):
            worker.heard = time.monotonic()
            worker.send("sum", parts[i :: len(self._workers)], linear, squared)
        while pending:
            for worker, message in self._listen(pending):
                if message == SUMMED:
                    pending.discard(worker)
            if any(worker not in self._workers for worker in pending):  # one was replaced: its parts are missing
                return None
        sums: Tensor = self._board.parts[: len(chunks(noise.dim, len(linear))), : 1 if squared is None else 2]
        return sums

    def wake(self) -> None:
        """Make `evaluate` ask for tasks now; from another thread."""
        self._ears.ring()

    def close(self) -> None:
        """End the workers: idle ones are asked first and killed after a grace period, busy ones are killed at once."""
        for worker in self._workers:
            worker.send("stop", patience=self._tolerance.stop_timeout)
        deadline = time.monotonic() + self._tolerance.stop_timeout
        for worker in self._workers:
            # one that is not idle is starting, or in the middle of an episode
            idle = worker.num_lanes and not self._ledger.held(worker)
            if not worker.end(max(deadline - time.monotonic(), 0.0) if idle else 0.0) and idle:
                _log.warning(
                    "Worker %d was killed: its environments did not close within %g s.",
                    worker.number, self._tolerance.stop_timeout,
                )  # fmt: skip
        self._workers = []
        self._ears.close()

    def _post(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._posted = self._board.dump(snapshot)
        for worker in self._workers:
            worker.send("begin", self._posted)

    def _listen(self, busy: set[Remote] | None = None) -> Iterator[tuple[Remote, bytes]]:
        """Yield the workers' messages, and replace workers that died or hang."""
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
            working = self._ledger.held(worker) or (busy is not None and worker in busy)
            if working and worker.silence() > self._tolerance.task_timeout:  # F07
                reason = f"was silent for {self._tolerance.task_timeout:g} s and was killed"
                self._replace(worker, reason, worker.stack(ask=True))

    def _failed(self, worker: Remote, message: bytes) -> None:
        """Raise an environment's exception: it would come again, unless memory was short."""
        kind, text, trace, itself = pickle.loads(message[1:])
        cause = unpickled(itself)  # F05
        reason, detail = f"raised {kind}: {text}", f"\n\nIts traceback:\n{trace}"
        short_of_memory = isinstance(cause, MemoryError)  # F03b
        if self._ledger.held(worker) and (self._tolerance.on_failure == "drop_pair" or short_of_memory):
            self._replace(worker, reason, detail, cause)
        else:
            raise WorkerError(f"Worker {worker.number} {reason}{detail}") from cause

    def _replace(self, worker: Remote, reason: str, detail: str, cause: BaseException | None = None) -> None:
        """Start another worker in its place. Its tasks run again with the same seeds, so no result changes."""
        self._ears.watch(worker, False)
        worker.end(grace=0.0)
        named = self._ledger.lose(worker, reason, detail, cause)
        _log.warning(
            "Worker %d %s; it is replaced (restart %d) and its tasks run again: %s.%s",
            worker.number, reason, self._ledger.restarts, named, detail,
        )  # fmt: skip
        fresh = self._fresh(worker.number)
        self._workers[self._workers.index(worker)] = fresh
        fresh.send("begin", self._posted)  # F10
        for other in self._workers:  # which could not be heard meanwhile
            other.heard = time.monotonic()

    def _start(self, number: int) -> Remote:
        return Remote(number, self._board, self._steps, self._payload, self._tolerance.task_timeout)

    def _fresh(self, number: int) -> Remote:
        """Return a worker that is up; one that dies while starting counts as a restart."""
        while True:
            fresh = self._start(number)
            try:
                died = self._greet(fresh, time.monotonic() + self._tolerance.start_timeout)
            except BaseException:
                fresh.end(grace=0.0)
                raise
            if not died:
                return fresh
            fresh.end(grace=0.0)
            self._ledger.spend_restart(f"No restarts are left. {died}", None)

    def _greet(self, worker: Remote, deadline: float) -> str:
        """Wait until the worker's player is ready; return how the worker died before, or ""."""
        if not worker.connection.poll(max(deadline - time.monotonic(), 0.0)):
            late = f"Worker {worker.number} did not come up within {self._tolerance.start_timeout:g} s."
            raise WorkerError(late + worker.stack(ask=True))
        message = receive(worker.connection)
        if message is None:
            return f"Worker {worker.number} {worker.death()} while starting.{worker.stack()}"
        if len(message) != LANES.size:  # F06
            self._failed(worker, message)
        (worker.num_lanes,) = LANES.unpack(message)
        self._ears.watch(worker, True)
        return ""
