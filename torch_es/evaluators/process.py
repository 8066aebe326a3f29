"""Workers in processes of their own (`torch.multiprocessing`, spawn), fed task by task."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import selectors
import signal
import sys
import time
import types
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import torch.multiprocessing as mp
from torch import Tensor

from torch_es.checks import check_count, check_positive
from torch_es.errors import WorkerError
from torch_es.evaluators.protocol import NextTasks, PlayerFactory
from torch_es.evaluators.wire import FAILED, SUMMED, Board, unpack_results
from torch_es.evaluators.worker import main
from torch_es.gradient import serial_noise_sum
from torch_es.noise import Noise, num_blocks
from torch_es.types import EpisodeResult, Float64Array, Snapshot, Task

_log = logging.getLogger(__name__)

_START_SECONDS = 120.0  # to import torch and make the environments


class _Worker:
    """The parent's end of one process."""

    def __init__(self, number: int, board: Board, payload: bytes) -> None:
        context = mp.get_context("spawn")
        self.number = number
        self.connection, theirs = context.Pipe()
        self.tasks: set[Task] = set()
        self.num_lanes = 0  # unknown until it is up
        self.heard = time.monotonic()
        self.process = context.Process(
            target=main, args=(theirs, board, payload, os.getpid()), name=f"torch-es-worker-{number}"
        )
        with _single_thread_libraries(), _without_main():
            self.process.start()
        theirs.close()

    def send(self, *command: Any) -> None:
        with contextlib.suppress(OSError):  # a dead worker is found by its sentinel
            self.connection.send_bytes(pickle.dumps(command))

    def end(self, grace: float) -> None:
        self.process.join(grace)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


class ProcessEvaluator:
    """Plays tasks in worker processes; the results have the same bits for any number of workers.

    A worker that dies, or is silent for `timeout` seconds with tasks in hand, is replaced and its tasks are played
    again with the same seeds.

    Args:
        player_factory: Makes a worker's player, in the worker; anything cloudpickle takes, also from a notebook.
        board: Shared memory of the right size.
        seed: The run's seed.
        num_workers: Processes; by default one for each core this process may use.
        timeout: Seconds without a word after which a worker counts as hung.
        max_restarts: Replacements before giving up.

    Raises:
        WorkerError: If a worker cannot start, an environment raises, or workers keep dying.
    """

    def __init__(
        self,
        player_factory: PlayerFactory,
        board: Board,
        seed: int,
        num_workers: int | None = None,
        timeout: float = 600.0,
        max_restarts: int = 10,
    ) -> None:
        count = default_num_workers() if num_workers is None else check_count("num_workers", num_workers)
        self._timeout = check_positive("timeout", timeout)
        self._restarts_left = check_count("max_restarts", max_restarts, minimum=0)
        self._payload = cloudpickle.dumps(player_factory)
        self._board = board
        self._sigma: float | None = None
        self._lost: deque[Task] = deque()
        self._noise_sum = serial_noise_sum(Noise(seed, board.theta.numel()))
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()  # connection.wait() would build one each time
        try:
            self._workers = [_Worker(number, board, self._payload) for number in range(count)]
            for worker in self._workers:
                self._greet(worker)
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
                        yield result

    def noise_sum(
        self, generation: int, linear: Float64Array, squared: Float64Array | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `torch_es.gradient.NoiseSum`; blocks are shared over the workers."""
        blocks = num_blocks(self._board.theta.numel())
        if blocks == 1:  # done before a worker would have read the request
            return self._noise_sum(generation, linear, squared)
        pending = set(self._workers)
        for i, worker in enumerate(self._workers):
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
        """End the workers: asked first, killed after a grace."""
        for worker in self._workers:
            worker.send("stop")
        for worker in self._workers:
            worker.end(grace=0.0 if worker.tasks else 5.0)
        self._workers = []
        self._selector.close()

    def _dispatch(self, next_tasks: NextTasks) -> None:
        """Give pairs to the least busy workers that have room for them."""
        while self._lost:
            worker = min(self._workers, key=lambda w: len(w.tasks))
            self._give(worker, (self._lost.popleft(),))
        while True:
            worker = min(self._workers, key=lambda w: len(w.tasks))
            if len(worker.tasks) > max(worker.num_lanes - 2, 0) or not (tasks := next_tasks()):
                return
            self._give(worker, tasks)

    def _give(self, worker: _Worker, tasks: tuple[Task, ...]) -> None:
        if not worker.tasks:
            worker.heard = time.monotonic()
        worker.tasks.update(tasks)
        worker.send("play", tasks)

    def _listen(self, busy: set[_Worker] | None = None) -> Iterator[tuple[_Worker, bytes]]:
        """Yield what workers say, replacing those that died or hang."""
        for worker in {key.data for key, _ in self._selector.select(timeout=1.0)}:
            message = _receive(worker.connection)
            if message is None:
                self._replace(worker, _death(worker))
            elif message[:1] == FAILED:
                raise _failure(worker, message)
            else:
                worker.heard = time.monotonic()
                yield worker, message
        for worker in list(self._workers):
            working = worker.tasks or (busy is not None and worker in busy)
            if working and time.monotonic() - worker.heard > self._timeout:
                self._replace(worker, f"was silent for {self._timeout:g} s and was killed")

    def _replace(self, worker: _Worker, reason: str) -> None:
        """Start another worker in its place; its tasks run again with the same seeds, so nothing changes."""
        tasks = sorted(worker.tasks)
        named = ", ".join(f"generation {t.generation} pair {t.pair} sign {t.sign:+d}" for t in tasks) or "none"
        if self._restarts_left == 0:
            raise WorkerError(f"Worker {worker.number} {reason}; no restarts are left. Its tasks: {named}.")
        self._restarts_left -= 1
        _log.warning("Worker %d %s; it is replaced and its tasks run again: %s.", worker.number, reason, named)
        self._watch(worker, False)
        worker.end(grace=0.0)
        fresh = _Worker(worker.number, self._board, self._payload)
        self._workers[self._workers.index(worker)] = fresh
        self._greet(fresh)
        fresh.send("begin", self._sigma)
        self._lost.extend(tasks)

    def _greet(self, worker: _Worker) -> None:
        """Wait until the worker's player stands."""
        if not worker.connection.poll(_START_SECONDS):
            raise WorkerError(f"Worker {worker.number} did not come up within {_START_SECONDS:g} s.")
        message = _receive(worker.connection)
        if message is None:
            raise WorkerError(f"Worker {worker.number} {_death(worker)} while starting.")
        if message[:1] == FAILED and len(message) > 1:
            raise _failure(worker, message)
        worker.num_lanes = message[0]
        self._watch(worker, True)

    def _watch(self, worker: _Worker, on: bool) -> None:
        for handle in (worker.connection, worker.process.sentinel):
            if on:
                self._selector.register(handle, selectors.EVENT_READ, worker)
            else:
                self._selector.unregister(handle)


def default_num_workers() -> int:
    """Return the number of cores that this process may use.

    Example:
        >>> default_num_workers() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _receive(connection: Connection) -> bytes | None:
    try:
        return connection.recv_bytes()
    except (EOFError, OSError):
        return None


def _death(worker: _Worker) -> str:
    worker.process.join(5.0)
    code = worker.process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"was killed by {name}{' (possibly out of memory)' if name == 'SIGKILL' else ''}"
    return f"exited with code {code}"


def _failure(worker: _Worker, message: bytes) -> WorkerError:
    kind, text, trace = pickle.loads(message[1:])
    return WorkerError(f"Worker {worker.number} raised {kind}: {text}\n\nIts traceback:\n{trace}")


@contextlib.contextmanager
def _single_thread_libraries() -> Iterator[None]:
    """Set, for a child about to start, what BLAS and OpenMP read when they are loaded."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep spawn from running the user's script again in the child: no `if __name__ == "__main__"` is needed.

    What the child needs of `__main__` came by value in cloudpickle's payload.
    """
    own = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = own
