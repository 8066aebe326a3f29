"""What travels between parent and worker: seeds, scalars and statistics, never a vector of parameters.

Results are packed, 25 bytes an episode and the statistics delta; commands are small pickles, parent to worker only.
The large tensors (theta, sigma, the sums) stand in shared memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from torch_es.evaluators.resources import check_shared_memory
from torch_es.types import EpisodeResult, Float64Array, Snapshot, Task

_RESULT = struct.Struct("<qiiBId")

_PAGES = 4 * 4096  # each of the four tensors ends within a page

RESULTS, SUMMED, FAILED = b"R", b"S", b"F"


def pack_results(results: Sequence[EpisodeResult]) -> bytes:
    """Pack finished episodes into one message.

    Example:
        >>> result = EpisodeResult(Task(3, 0, -1), 1.5, 10, True, None)
        >>> list(unpack_results(pack_results([result]), moments_size=0)) == [result]
        True
    """
    parts = [RESULTS]
    for task, return_, length, truncated, moments, _ in results:
        flags = (task.sign + 1) | truncated << 2 | (moments is not None) << 3
        parts.append(_RESULT.pack(task.generation, task.pair, task.episode, flags, length, return_))
        if moments is not None:
            parts.append(moments.tobytes())
    return b"".join(parts)


def unpack_results(message: bytes, moments_size: int) -> Iterator[EpisodeResult]:
    """Read what `pack_results` wrote; `moments_size` is the number of floats of a statistics delta."""
    at = 1
    while at < len(message):
        generation, pair, episode, flags, length, return_ = _RESULT.unpack_from(message, at)
        at += _RESULT.size
        moments: Float64Array | None = None
        if flags & 8:
            moments = np.frombuffer(message, np.float64, moments_size, at).copy()
            at += moments.nbytes
        task = Task(generation, pair, (flags & 3) - 1, episode)
        yield EpisodeResult(task, return_, length, bool(flags & 4), moments)


def _row(task: Task) -> int:
    return 2 * task.pair + (task.sign < 0)


class Board:
    """The shared memory: the parent writes a snapshot before it gives tasks, workers write blocks of the sums.

    Args:
        dim: Elements of theta.
        dtype: Of theta.
        observation_size: Elements of an observation; 0 without normalisation.
        scored_members: Members whose scores come back, where actions alone are searched.

    Raises:
        ResourceError: If the system has too little of it.
    """

    def __init__(self, dim: int, dtype: torch.dtype, observation_size: int, scored_members: int = 0) -> None:
        rows = 2 * dtype.itemsize + (2 + scored_members) * torch.float32.itemsize
        check_shared_memory(dim * rows + 16 * observation_size + _PAGES)
        self.theta = torch.zeros(dim, dtype=dtype).share_memory_()
        self.sigma = torch.zeros(dim, dtype=dtype).share_memory_()  # pages never written cost nothing
        self.statistics = torch.zeros(2, observation_size, dtype=torch.float64).share_memory_()
        self.max_steps = torch.zeros(1, dtype=torch.int64).share_memory_()  # 0 is no cap
        self.sums = torch.zeros(2, dim).share_memory_()
        self.scores = torch.zeros(scored_members, dim).share_memory_()

    def post(self, snapshot: Snapshot) -> float | None:
        """Write the snapshot; return sigma if it is one number."""
        self.theta.copy_(snapshot.theta)
        self.max_steps.fill_(snapshot.max_steps or 0)
        if snapshot.mean is not None and snapshot.std is not None:
            self.statistics[0] = torch.from_numpy(snapshot.mean)
            self.statistics[1] = torch.from_numpy(snapshot.std)
        if isinstance(snapshot.sigma, torch.Tensor):
            self.sigma.copy_(snapshot.sigma)
            return None
        return snapshot.sigma

    def keep_score(self, result: EpisodeResult) -> None:
        """Write the member's score, if there is one, to its row."""
        if result.score is not None:
            self.scores[_row(result.task)] = result.score

    def with_score(self, result: EpisodeResult) -> EpisodeResult:
        """Return the result with the score that a worker wrote, where there are any."""
        if not len(self.scores) or not result.task.sign:
            return result
        return result._replace(score=self.scores[_row(result.task)])

    def read(self, sigma: float | None) -> Snapshot:
        """Return the snapshot as views of the shared memory."""
        mean, std = self.statistics.numpy() if self.statistics.numel() else (None, None)
        return Snapshot(self.theta, self.sigma if sigma is None else sigma, mean, std, int(self.max_steps) or None)
