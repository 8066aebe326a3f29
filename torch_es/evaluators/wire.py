"""What travels between parent and worker: seeds, scalars and statistics, never a vector of parameters.

Results are packed, 29 bytes an episode and the statistics delta. Commands are small pickles, parent to worker only;
the large tensors in them (theta, a vector of sigmas) stand in shared memory, as do partial sums and scores.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor

from torch_es.evaluators.resources import check_shared_memory
from torch_es.rollout import Snapshot
from torch_es.search.perturbation import Unperturbed, max_chunks
from torch_es.types import EpisodeResult, Task

_RESULT = struct.Struct("<IiiiBId")
_COUNT = struct.Struct("<I")
_TRUNCATED, _MOMENTS, _BEHAVIOUR = 1, 2, 4

_PAGE = 4096  # each shared tensor ends within one

RESULTS, SUMMED, FAILED = b"R", b"S", b"F"
LANES = struct.Struct("<I")  # a worker's first word: how many tasks it plays at once


def pack_results(results: Sequence[EpisodeResult]) -> bytes:
    """Pack finished episodes into one message.

    Example:
        >>> result = EpisodeResult(Task(3, 1), 1.5, 10, True, None)
        >>> list(unpack_results(pack_results([result]), moments_size=0)) == [result]
        True
    """
    parts = [RESULTS]
    for result in results:
        moments, behaviour = result.moments, result.behaviour
        flags = _TRUNCATED * result.truncated | _MOMENTS * (moments is not None) | _BEHAVIOUR * (behaviour is not None)
        parts.append(_RESULT.pack(*result.task, flags, result.length, result.return_))
        if moments is not None:
            parts.append(moments.tobytes())
        if behaviour is not None:
            parts += [_COUNT.pack(len(behaviour)), behaviour.tobytes()]
    return b"".join(parts)


def unpack_results(message: bytes, moments_size: int) -> Iterator[EpisodeResult]:
    """Read what `pack_results` wrote; `moments_size` is the number of floats of a statistics delta."""
    at = 1
    while at < len(message):
        generation, member, episode, world, flags, length, return_ = _RESULT.unpack_from(message, at)
        at += _RESULT.size
        moments = behaviour = None
        if flags & _MOMENTS:
            moments = np.frombuffer(message, np.float64, moments_size, at).copy()
            at += moments.nbytes
        if flags & _BEHAVIOUR:
            (count,) = _COUNT.unpack_from(message, at)
            behaviour = np.frombuffer(message, np.float64, count, at + _COUNT.size).copy()
            at += _COUNT.size + behaviour.nbytes
        task = Task(generation, member, episode, world)
        yield EpisodeResult(task, return_, length, bool(flags & _TRUNCATED), moments, None, behaviour)


def detach(snapshot: Snapshot) -> tuple[bytes, list[Tensor]]:
    """Pickle a snapshot without its tensors, which are returned beside the bytes."""
    file, tensors = io.BytesIO(), []

    def place(tensor: Tensor) -> int:
        tensors.append(tensor)
        return len(tensors) - 1

    _Pickler(file, place).dump(snapshot)
    return file.getvalue(), tensors


def attach(message: bytes, tensors: Sequence[Tensor]) -> Snapshot:
    """Return the snapshot whose bytes and tensors `detach` returned."""
    return _Unpickler(io.BytesIO(message), tensors).load()  # type: ignore[no-any-return]


class Board:
    """The shared memory: the parent posts a snapshot before it gives tasks, workers write parts of sums, and scores.

    Its size follows from a snapshot like those to come.

    Raises:
        ResourceError: If the system has too little shared memory.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        _, found = detach(snapshot)
        dim = len(snapshot.theta)
        perturbation = snapshot.perturbation
        scored = perturbation.num_members if isinstance(perturbation, Unperturbed) else 0
        parts = 2 * (1 if scored else max_chunks(dim))
        needed = sum(t.numel() * t.element_size() for t in found) + dim * (parts + scored) * torch.float32.itemsize
        check_shared_memory(needed + _PAGE * (len(found) + 2))
        self._slots = [torch.zeros_like(t).share_memory_() for t in found]
        self.parts = torch.zeros(
            parts // 2, 2, dim, dtype=torch.float32, device="cpu"
        ).share_memory_()  # pages never written cost nothing
        self.scores = torch.zeros(scored, dim, device="cpu").share_memory_()

    def dump(self, snapshot: Snapshot) -> bytes:
        """Pickle a snapshot; its large tensors go to the shared memory, and only their places into the bytes."""
        free = dict(enumerate(self._slots))

        def place(tensor: Tensor) -> int | None:
            for number, slot in free.items():
                if slot.shape == tensor.shape and slot.dtype == tensor.dtype:
                    free.pop(number).copy_(tensor)
                    return number
            return None

        file = io.BytesIO()
        _Pickler(file, place).dump(snapshot)
        return file.getvalue()

    def load(self, message: bytes) -> Snapshot:
        """Read what `dump` wrote, as views of the shared memory."""
        return attach(message, self._slots)

    def keep_score(self, result: EpisodeResult) -> None:
        """Write the member's score, if there is one, to its row."""
        if result.score is not None:
            self.scores[result.task.member] = result.score

    def with_score(self, result: EpisodeResult) -> EpisodeResult:
        """Return the result with the score that a worker wrote, where there are any."""
        if not len(self.scores) or result.task.member < 0:
            return result
        return result._replace(score=self.scores[result.task.member])


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Asks `place` for a place for each tensor; one without a place is pickled as it is."""

    def __init__(self, file: io.BytesIO, place: Any) -> None:
        super().__init__(file)
        self._place = place

    def persistent_id(self, value: Any) -> Any:
        return self._place(value) if isinstance(value, Tensor) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, slots: Sequence[Tensor]) -> None:
        super().__init__(file)
        self._slots = slots

    def persistent_load(self, number: Any) -> Tensor:
        slot: Tensor = self._slots[number]
        return slot
