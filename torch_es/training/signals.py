"""Ctrl-C, SIGTERM and SLURM's SIGUSR1 stop training between two steps of theta, so that it can be saved whole."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn

from torch import Tensor

from torch_es.errors import Stopped
from torch_es.evaluators import Evaluator
from torch_es.evaluators.protocol import NextTasks
from torch_es.evaluators.tolerance import nothing
from torch_es.rollout import Snapshot
from torch_es.search.perturbation import Noisy
from torch_es.types import EpisodeResult, Float64Array, Metrics

_log = logging.getLogger(__name__)


class StopSignals:
    """While this is entered, a signal or the end of the time ends the generation being played, by raising `Stopped`.

    On leaving, the old handlers are restored, and the signal takes effect as if it came now. The old handler is called
    (Python's own raises KeyboardInterrupt); if there was none, the process exits with 128 + the signal's number, 143
    for SIGTERM. A second Ctrl-C raises KeyboardInterrupt at once. SIGUSR1 is handled if SLURM_JOB_ID is set: the job is
    requeued after everything is saved. Outside the main thread, signals are left alone.

    Args:
        deadline: When the time ends, by `time.monotonic()`.

    Example:
        >>> with StopSignals() as signals:
        ...     signals.received is None
        True
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self._deadline = deadline
        self.received: int | None = None
        self._playing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *_endings()):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # nohup stays nohup
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received is not None and (error is None or isinstance(error, Stopped)):
            self._hand_over(self.received)
        return isinstance(error, Stopped)  # the time was over, as the user asked

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
        if self._playing:
            self._playing = False  # only once: while it is being handled, no other comes
            raise Stopped

    def check(self) -> None:
        """Raise `Stopped` if a signal came or the time is over."""
        if self.received is not None or time.monotonic() > self._deadline:
            raise Stopped

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within this, a signal raises `Stopped` at once, so nothing that must stay whole may be changed here."""
        self._playing = True
        try:
            self.check()
            yield
        finally:
            self._playing = False

    def watch(self, evaluator: Evaluator) -> Evaluator:
        """Return the evaluator, in a form that a signal can interrupt at any moment of its playing."""
        return _Watched(evaluator, self)

    def _hand_over(self, number: int) -> None:
        before = self._before[number]
        if callable(before) and number != getattr(signal, "SIGUSR1", None):
            before(number, None)
        _leave(number, None)


@contextlib.contextmanager
def exits() -> Iterator[None]:
    """Within this, SIGTERM and SLURM's SIGUSR1 raise SystemExit with 128 + the number, so that files and loggers close.

    This is for what is not training, which `StopSignals` stops. Outside the main thread, signals are left alone.
    """
    in_main = threading.current_thread() is threading.main_thread()
    free = [number for number in _endings() if in_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in free:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in free:
            signal.signal(number, signal.SIG_DFL)


def _endings() -> list[int]:
    """Return the signals that end a process, besides Ctrl-C."""
    return [signal.SIGTERM, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]


def _leave(number: int, _: object) -> NoReturn:
    if number == getattr(signal, "SIGUSR1", None):
        requeue()
    raise SystemExit(128 + number)  # F13a


class _Watched:
    """An evaluator whose playing can be interrupted."""

    def __init__(self, evaluator: Evaluator, signals: StopSignals) -> None:
        self._evaluator, self._signals = evaluator, signals
        self.attend = nothing

    @property
    def metrics(self) -> Metrics:
        """See `Evaluator.metrics`."""
        return self._evaluator.metrics

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """See `Evaluator.evaluate`."""

        def asked() -> Any:
            self._signals.check()
            return next_tasks()

        self._evaluator.attend = self._signals.check
        try:
            with self._signals.interruptible():
                yield from self._evaluator.evaluate(snapshot, asked)
        finally:
            self._evaluator.attend = nothing

    def noise_sum(self, noise: Noisy, linear: Float64Array, squared: Float64Array | None = None) -> Tensor:
        """See `Evaluator.noise_sum`."""
        return self._evaluator.noise_sum(noise, linear, squared)

    def close(self) -> None:
        """See `Evaluator.close`."""
        self._evaluator.close()


def requeue() -> None:
    """Ask SLURM to run this job again: `scontrol requeue`, with the id of the array's task if it is one."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    command = shutil.which("scontrol")
    if command is None:
        _log.warning("scontrol is not on PATH: the job %s is saved, but not requeued.", job)
        return
    done = subprocess.run([command, "requeue", job], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    if done.returncode != 0:
        _log.warning("`scontrol requeue %s` failed: %s", job, done.stderr.strip())
