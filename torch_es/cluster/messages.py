"""What travels between the training process and a node.

A snapshot goes to a node once a generation, through Ray's object store, which keeps one copy a machine. Tasks go out
and packed results come back in one call, many at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from torch_es.errors import WorkerError
from torch_es.evaluators.pickling import pickled, unpickled
from torch_es.evaluators.wire import attach, detach
from torch_es.rollout import Snapshot
from torch_es.types import Task

Units = list[tuple[Task, ...]]


class Posted(NamedTuple):
    """A snapshot as it travels; Ray hands the arrays over without a copy.

    Attributes:
        number: Counts the snapshots of a run.
        message: The snapshot without its tensors.
        arrays: The tensors, in order.
    """

    number: int
    message: bytes
    arrays: list[npt.NDArray[Any]]

    @property
    def checksum(self) -> int:
        """A number that differs if a bit of a tensor does."""
        value = 0
        for array in self.arrays:
            value = zlib.crc32(array.data, value)
        return value


class Greeting(NamedTuple):
    """What a node says once its workers are up.

    Attributes:
        num_workers: Its worker processes.
        num_lanes: How many tasks they play at once.
        processor: The name of its CPU.
        arithmetic: A digest of a computation; see `torch_es.runs.machine.arithmetic`.
    """

    num_workers: int
    num_lanes: int
    processor: str
    arithmetic: str


class Answer(NamedTuple):
    """What a node has to tell.

    Attributes:
        checksum: Of the snapshot that it plays.
        results: Packed by `torch_es.evaluators.wire.pack_results`.
        scores: The scores of these results, None where there is none.
        waited: How many seconds of the call passed until there was a result.
        restarts: How many workers the node has replaced so far.
        warnings: What it logged since its last answer.
    """

    checksum: int
    results: bytes
    scores: list[npt.NDArray[np.float32] | None]
    waited: float
    restarts: int
    warnings: tuple[str, ...]


class Failure(NamedTuple):
    """What ended a node's playing.

    Attributes:
        message: Of the exception.
        task: The one at fault, if that is known.
        cause: The exception's own cause, pickled if it can be.
    """

    message: str
    task: Task | None
    cause: bytes

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return an exception as it travels."""
        told = error if isinstance(error, WorkerError) else WorkerError(f"{type(error).__name__}: {error}")
        cause = error.__cause__ if told is error else error
        return cls(str(told), told.task, pickled(cause))

    def error(self, node: object) -> WorkerError:
        """Return the exception again, with its cause if this process can unpickle it."""
        error = WorkerError(f"{node}: {self.message}", self.task)
        error.__cause__ = unpickled(self.cause)
        return error


def posted(number: int, snapshot: Snapshot) -> Posted:
    """Return a snapshot as it travels."""
    message, tensors = detach(snapshot)
    return Posted(number, message, [tensor.contiguous().numpy() for tensor in tensors])


def received(parcel: Posted) -> Snapshot:
    """Return the snapshot of a parcel; its tensors must not be written to."""
    return attach(parcel.message, tensors(parcel.arrays))


def tensors(arrays: Sequence[npt.NDArray[Any]]) -> list[torch.Tensor]:
    """Return the arrays as tensors; those of the object store are read-only, which torch cannot express, so copies."""
    return [torch.from_numpy(array.copy()) for array in arrays]
