"""The parent's end of a worker process."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import selectors
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from multiprocessing import resource_tracker, util
from multiprocessing.connection import Connection, wait
from typing import Any

import torch.multiprocessing as mp
from torch import Tensor

from torch_es.evaluators.wire import Board
from torch_es.evaluators.worker import PARENTS_SIGNALS, SAY_WHERE, main

_DUMP_SECONDS = 0.5  # for a hung worker to write its stack, which it does even if something holds the GIL
_DUMP_BYTES = 1 << 16
_ROOM = 1 << 12  # bytes that a pipe has room for if it has room for one
_starting = threading.Lock()  # a start changes settings of the whole process


class Remote:
    """A worker process as its parent sees it; for the arguments see `worker.main`."""

    def __init__(self, number: int, board: Board, steps: Tensor, payload: bytes, patience: float) -> None:
        context = mp.get_context("spawn")
        self.number = number
        self.connection, theirs = context.Pipe()
        self._stacks, their_stacks = context.Pipe(duplex=False)
        self.num_lanes = 0  # unknown until it is up
        self._patience, self._given_up = patience, ""
        self.heard = time.monotonic()
        self._steps = steps[number].zero_()
        self._seen = self._ended = 0  # steps when looked at, and when it last answered
        self.process = context.Process(
            target=main,
            args=(theirs, their_stacks, board, steps, payload, number, patience),
            name=f"torch-es-worker-{number}",
        )
        with _starting, _single_thread_libraries(), _without_main(), _known_start_method(), _signals_blocked():
            self.process.start()
            # runs before Python waits for its children at exit, so nobody has to close the evaluator
            self._kill = util.Finalize(self, _kill, args=(self.process,), exitpriority=0)  # F11b
        theirs.close()
        their_stacks.close()

    def __str__(self) -> str:
        return f"Worker {self.number}"

    def silence(self) -> float:
        """Return for how many seconds the worker has neither answered nor taken a step."""
        now, steps = time.monotonic(), int(self._steps)
        if steps != self._seen:
            self._seen, self.heard = steps, now
        return now - self.heard

    def answered(self) -> None:
        """Note that it did."""
        self.heard, self._ended = time.monotonic(), int(self._steps)

    def endless(self) -> int:
        """Return how many steps it took since it last answered."""
        return int(self._steps) - self._ended

    def send(self, *command: Any, patience: float | None = None) -> None:
        """Send a command. A dead worker is not noticed here, but by its sentinel; one that does not read is killed."""
        message = pickle.dumps(command)
        with contextlib.suppress(OSError):
            if len(message) <= _ROOM and self._has_room():
                self.connection.send_bytes(message)
                return
            seconds = self._patience if patience is None else patience
            watch = threading.Timer(seconds, self._give_up, [seconds])
            watch.start()
            try:
                self.connection.send_bytes(message)
            finally:
                watch.cancel()

    def _has_room(self) -> bool:
        """Whether its pipe takes a short message at once; where pipes are no files (Windows), nobody can tell."""
        if not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLOUT)
        return bool(poll.poll(0))

    def _give_up(self, seconds: float) -> None:
        self._given_up = f"did not read for {seconds:g} s and was killed"
        self._kill()

    def end(self, grace: float) -> bool:
        """Wait up to `grace` seconds for the process to end, then kill it and what it started; say if it ended."""
        in_time = bool(wait([self.process.sentinel], grace))  # not join(): before it, nobody else gets its id
        self._kill()
        self.process.join()
        self.connection.close()
        self._stacks.close()
        return in_time

    def death(self) -> str:
        """Say how the process ended."""
        if self._given_up:
            return self._given_up
        self.process.join(5.0)
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"exited with code {code}"
        name = signal.Signals(-code).name
        return f"was killed by {name}{' (possibly out of memory)' if name == 'SIGKILL' else ''}"  # F03a

    def stack(self, ask: bool = False) -> str:
        """Return the stack of a crash or, with `ask`, the present stack of a hung process; "" if there is none."""
        if SAY_WHERE is None:
            return ""
        if ask:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid or 0, SAY_WHERE)
                time.sleep(_DUMP_SECONDS)
        text = os.read(self._stacks.fileno(), _DUMP_BYTES).decode(errors="replace") if self._stacks.poll() else ""
        return f"\n\nIt stood at:\n{text}" if text else ""


class Ears:
    """The pipes of all workers and their ends, waited for together.

    A selector that is kept serves a hundred workers as fast as one; where pipes are no files (Windows), each wait makes
    its own.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector() if hasattr(select, "poll") else None
        self._workers: dict[Any, Remote] = {}
        self._bell, self._rope = mp.get_context("spawn").Pipe(duplex=False)
        self._rung = threading.Event()  # so that the pipe never fills
        if self._selector is not None:
            self._selector.register(self._bell, selectors.EVENT_READ)

    def ring(self) -> None:
        """End a wait, from another thread."""
        if not self._rung.is_set():
            self._rung.set()
            self._rope.send_bytes(b"!")

    def watch(self, worker: Remote, on: bool) -> None:
        """Listen to a worker, or no longer."""
        for handle in (worker.connection, worker.process.sentinel):
            if on:
                self._workers[handle] = worker
                if self._selector is not None:
                    self._selector.register(handle, selectors.EVENT_READ)
            else:
                del self._workers[handle]
                if self._selector is not None:
                    self._selector.unregister(handle)

    def hear(self, timeout: float) -> set[Remote]:
        """Return the workers that said something or died, as soon as there is one, or none if the bell rang."""
        if self._selector is None:
            handles = set(wait([*self._workers, self._bell], timeout))
        else:
            handles = {key.fileobj for key, _ in self._selector.select(timeout)}  # type: ignore[misc]
        if self._bell in handles:
            handles.remove(self._bell)
            self._bell.recv_bytes()
            self._rung.clear()
        return {self._workers[handle] for handle in handles}

    def close(self) -> None:
        """Listen no longer."""
        if self._selector is not None:
            self._selector.close()
        self._bell.close()
        self._rope.close()


def _kill(process: Any) -> None:
    """Kill a worker and all it started: its process group, if it got so far as to have one."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def receive(connection: Connection) -> bytes | None:
    """Return a message, or None if the process is gone."""
    try:
        return connection.recv_bytes()
    except (EOFError, OSError):
        return None


@contextlib.contextmanager
def _single_thread_libraries() -> Iterator[None]:
    """Set the variables that BLAS and OpenMP read when they are loaded, for a child that is about to start."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))  # F24
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep spawn from running the user's script again in the child, so no `if __name__ == "__main__"` is needed.

    The child gets what it needs from `__main__` by value, in cloudpickle's payload.
    """
    own = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = own


@contextlib.contextmanager
def _known_start_method() -> Iterator[None]:
    """Hide joblib's start method, loky, from the child, which would fail if it saw it."""
    method = mp.get_start_method(allow_none=True)
    strange = method not in (None, *mp.get_all_start_methods())  # F19
    if strange:
        mp.set_start_method("spawn", force=True)
    try:
        yield
    finally:
        if strange:
            mp.set_start_method(method, force=True)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Keep a Ctrl-C or SIGTERM to the whole group from ending a child that has not yet learnt to ignore them.

    The signal must not end this process's start half way either, while the child waits for the rest. Another thread may
    receive it, and Python then handles it in the main thread, whatever that one blocks. So it is also put off until the
    start is over.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # otherwise start() would start it, and unblock the signals again
    received: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        taken = [number for number in PARENTS_SIGNALS if callable(signal.getsignal(number))]
        handlers = {number: signal.signal(number, lambda number, _: received.append(number)) for number in taken}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)  # F13b
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in received:
            signal.raise_signal(number)
