"""One generation: which tasks it plays, when it is complete, and what its members returned."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from torch_es.envs.rules import EpisodeRules
from torch_es.types import EpisodeResult, Float64Array, Task


class Quota(NamedTuple):
    """When a generation is complete: enough pairs, and enough episodes, and enough steps.

    The paper's code closes on a budget of episodes and steps (10,000 and 100,000 for Humanoid). Membership is fixed:
    the shortest row of pairs 0, 1, 2, ... that fills the quota, whichever results came first.

    Attributes:
        pairs: At least so many pairs.
        episodes: At least so many episodes.
        timesteps: At least so many environment steps.
    """

    pairs: int
    episodes: int = 0
    timesteps: int = 0


class Generation:
    """The results of one generation as they come in, and what is to be played next.

    Args:
        number: The generation.
        quota: When it is complete.
        evaluations: Noise-free episodes of the centre, played in the same pool.
        rules: Of the episodes.
    """

    def __init__(self, number: int, quota: Quota, evaluations: int, rules: EpisodeRules = EpisodeRules()) -> None:
        self.number = number
        self._quota = quota
        self._rules = rules
        self._pairs: list[list[EpisodeResult | None]] = []
        self._centre: dict[int, EpisodeResult] = {}
        self._centre_left = list(reversed(range(evaluations)))
        self._closed: int | None = None
        self._scanned, self._scanned_steps = 0, 0

    def next_tasks(self) -> tuple[Task, ...] | None:
        """Return the next pair, or the next episode of the centre, or None while nothing is needed."""
        if self._centre_left:
            return (Task(self.number, -1, 0, self._centre_left.pop()),)
        if self._closed is not None or not self._short():
            return None
        pair, each = len(self._pairs), range(self._rules.per_member)
        self._pairs.append([None for _ in (+1, -1) for _ in each])
        return tuple(Task(self.number, pair, sign, episode) for sign in (+1, -1) for episode in each)

    def add(self, result: EpisodeResult) -> None:
        """Take a result."""
        if result.task.sign == 0:
            self._centre[result.task.episode] = result
            return
        first = 0 if result.task.sign > 0 else self._rules.per_member
        self._pairs[result.task.pair][first + result.task.episode] = result
        self._scan()

    def _scan(self) -> None:
        """Walk over the pairs known in full, in order, until the quota is filled."""
        while self._closed is None and self._scanned < len(self._pairs) and all(self._pairs[self._scanned]):
            self._scanned_steps += sum(r.length for r in self._pairs[self._scanned] if r)
            self._scanned += 1
            if self._filled(self._scanned, self._scanned_steps):
                self._closed = self._scanned

    def _filled(self, pairs: int, steps: float) -> bool:
        quota = self._quota
        episodes = 2 * pairs * self._rules.per_member
        return pairs >= quota.pairs and episodes >= quota.episodes and steps >= quota.timesteps

    def _short(self) -> bool:
        """Whether the pairs begun will, at the mean length so far, leave the quota open."""
        if not self._quota.timesteps:
            return not self._filled(len(self._pairs), 0)
        known = [r.length for pair in self._pairs for r in pair if r]
        mean = float(np.mean(known)) if known else 1.0
        begun = 2 * self._rules.per_member * len(self._pairs)
        return not self._filled(len(self._pairs), sum(known) + mean * (begun - len(known)))

    @property
    def members(self) -> list[tuple[list[EpisodeResult], list[EpisodeResult]]]:
        """The pairs of the complete generation, in order: the episodes of either member."""
        each = self._rules.per_member
        whole = [[result for result in pair if result] for pair in self._pairs[: self._closed]]
        return [(results[:each], results[each:]) for results in whole if len(results) == 2 * each]

    @property
    def returns(self) -> Float64Array:
        """Returns `(num_pairs, 2)`, column 0 is +noise: the mean of a member's episodes, as the environment pays."""
        return np.array([[np.mean([r.return_ for r in member]) for member in pair] for pair in self.members])

    @property
    def fitness(self) -> Float64Array:
        """What the members are worth to the strategy, `(num_pairs, 2)`."""
        return np.array([[self._rules.fitness(member) for member in pair] for pair in self.members])

    def score_sum(
        self, generation: int, linear: Float64Array, squared: Float64Array | None = None
    ) -> tuple[torch.Tensor, None]:
        """Return the sum of the members' scores, weighted by `linear` `(2 * num_pairs,)`, in member order."""
        scores = [result.score for result in self.episodes if result.score is not None]
        total = torch.zeros_like(scores[0])
        for weight, score in zip(linear.tolist(), scores, strict=True):
            total.add_(score, alpha=weight)
        return total, None

    @property
    def lengths(self) -> npt.NDArray[np.uint32]:
        """Steps of each member, over all its episodes, `(num_pairs, 2)`."""
        return np.array([[sum(r.length for r in member) for member in pair] for pair in self.members], np.uint32)

    @property
    def centre(self) -> list[EpisodeResult]:
        """The centre's episodes, in order."""
        return [self._centre[episode] for episode in sorted(self._centre)]

    @property
    def episodes(self) -> list[EpisodeResult]:
        """All members' episodes, in (pair, sign, episode) order."""
        return [result for pair in self.members for member in pair for result in member]
