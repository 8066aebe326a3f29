"""A node's end: worker processes of its own, which get their tasks from a queue that another machine fills."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torch_es.cluster.messages import Answer, Failure, Greeting, Posted, Units, received
from torch_es.evaluators import FaultTolerance, ProcessEvaluator, pickling
from torch_es.evaluators.wire import pack_results
from torch_es.runs.machine import arithmetic, processor
from torch_es.search.perturbation import columns
from torch_es.types import EpisodeResult, Float64Array, Task


class NodeActor:
    """Plays what it is given; made on its node by Ray, which runs each of its methods in a thread of its own.

    Args:
        num_workers: Worker processes.
        payload: What is evaluated, from `torch_es.evaluators.pickling.dumps`.
        parcel: A snapshot like those to come.
        tolerance: Of the workers.
        path: The folders in which the training process finds modules.
    """

    def __init__(
        self, num_workers: int, payload: bytes, parcel: Posted, tolerance: FaultTolerance, path: list[str]
    ) -> None:
        self._arguments = payload, num_workers, tolerance
        sys.path.extend(folder for folder in path if folder not in sys.path)
        self._evaluator: Any = None
        self._warnings = _Kept()
        self._number, self._checksum = -1, 0
        self._snapshot = received(parcel)
        self._player: threading.Thread | None = None
        self._tasks: deque[tuple[Task, ...]] = deque()
        self._over = False
        self._news = threading.Condition()
        self._one = threading.Lock()  # playing and computing take turns
        self._results: list[EpisodeResult] = []
        self._error: Exception | None = None

    def start(self) -> Greeting | Failure:
        """Start the workers, and say what this node is."""
        torch.set_num_threads(1)
        logging.getLogger("torch_es").addHandler(self._warnings)
        payload, num_workers, tolerance = self._arguments
        try:
            self._evaluator = ProcessEvaluator(pickling.objective(payload), self._snapshot, num_workers, tolerance)
        except Exception as error:  # noqa: BLE001 - told to the training process, whatever it is
            return Failure.of(error)
        return Greeting(num_workers, self._evaluator.num_lanes, processor(), arithmetic())

    def exchange(self, number: int, units: Units, patience: float, parcel: Posted | None = None) -> Answer | Failure:
        """Take tasks and return results, as soon as there are any or after `patience` seconds.

        Args:
            number: Of the snapshot with which to play.
            units: Tasks to play, each tuple side by side.
            patience: Seconds to wait for a result.
            parcel: The snapshot, if it is new to this node.
        """
        if parcel is not None and number != self._number:
            with self._one:
                self._begin(parcel)
        self._tasks.extend(units)
        self._evaluator.wake()
        start = time.monotonic()
        with self._news:
            self._news.wait_for(lambda: self._results or self._error, patience)
            waited = time.monotonic() - start
            results, self._results = self._results, []
        if self._error is not None:
            return Failure.of(self._error)
        return Answer(
            self._checksum,
            pack_results(results),
            [None if result.score is None else result.score.numpy() for result in results],
            waited,
            self._evaluator.restarts,
            self._warnings.taken(),
        )

    def compute(
        self,
        number: int,
        parts: list[tuple[int, int]],
        linear: Float64Array,
        squared: Float64Array | None,
        parcel: Posted | None = None,
    ) -> list[npt.NDArray[np.float32]] | None:
        """Compute parts of an update's sums; None if a worker was lost meanwhile."""
        with self._one:
            if parcel is not None and number != self._number:
                self._begin(parcel)
            self._end()
            noise: Any = self._snapshot.perturbation
            sums = self._evaluator.compute(noise, parts, linear, squared)
        if sums is None:
            return None
        return [columns(sums[chunk], block).numpy().copy() for chunk, block in parts]

    def stop(self) -> None:
        """End the workers."""
        self._end()
        if self._evaluator is not None:
            self._evaluator.close()

    def _begin(self, parcel: Posted) -> None:
        """Play with another snapshot from now on."""
        self._end()
        self._number, self._checksum = parcel.number, parcel.checksum
        self._snapshot = received(parcel)
        self._over, self._results = False, []
        self._player = threading.Thread(target=self._play, daemon=True)
        self._player.start()

    def _end(self) -> None:
        """End the playing; nothing is outstanding, or nobody wants it any more."""
        self._over = True
        self._tasks.clear()
        if self._player is not None:
            self._evaluator.wake()
            self._player.join()
            self._player = None

    def _play(self) -> None:
        try:
            for result in self._evaluator.evaluate(self._snapshot, self._next_tasks):
                with self._news:
                    self._results.append(result)
                    self._news.notify()
        except Exception as error:  # noqa: BLE001 - as above
            with self._news:
                self._error = error
                self._news.notify()

    def _next_tasks(self) -> tuple[Task, ...] | None:
        if self._tasks:
            return self._tasks.popleft()
        return None if self._over else ()


class _Kept(logging.Handler):
    """Keeps warnings until they are asked for."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())

    def taken(self) -> tuple[str, ...]:
        return tuple(self._lines.popleft() for _ in range(len(self._lines)))
