"""One generation: which tasks it plays, when it is complete, and what its members returned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torch_es.envs import EpisodeRules
from torch_es.nn.moments import Moments
from torch_es.search import Outcome, Population
from torch_es.types import CENTRE, EpisodeResult, Float64Array, Task


class Generation:
    """The results of one generation as they come in, and what to play next.

    Results are kept in arrays `(units, unit_size, per_member, ...)`, in member order, which grow as units begin.

    Besides the strategy's own population, a generation may need a number of episodes and of steps (the paper's code
    closes on 10,000 and 100,000 for Humanoid). Membership is fixed: the shortest row of units 0, 1, 2, ... that has
    them, whichever results came first.

    Args:
        population: The members; a unit of them is played side by side.
        rules: The rules of the episodes.
        min_episodes: The least number of episodes.
        min_timesteps: The least number of environment steps.
        evaluations: Noise-free episodes of the centre, played in the same pool.
        fitness: What members are worth; see `Objective.fitness`. By default what the rules say.
        together: How many members answer in one call, so that whoever plays gets them together.

    Attributes:
        steps: Of the members' episodes that count.
    """

    def __init__(
        self,
        population: Population,
        rules: EpisodeRules,
        min_episodes: int = 0,
        min_timesteps: int = 0,
        evaluations: int = 0,
        fitness: Callable[..., Float64Array] | None = None,
        together: int = 1,
    ) -> None:
        self.number = population.generation
        self.unit_size = population.unit_size
        self._least = population.num_units
        self._rules, self._min_episodes, self._min_timesteps = rules, min_episodes, min_timesteps
        self._fitness = fitness or (lambda returns, lengths, _: rules.fitness(returns, lengths))
        self._at_once = math.lcm(together, self.unit_size) // self.unit_size  # units
        self._begun = 0
        self._known: dict[str, npt.NDArray[Any]] = {
            "returns": self._empty(np.float64), "lengths": self._empty(np.uint32), "truncated": self._empty(np.bool_),
        }  # fmt: skip
        self._missing: list[int] = []  # how many results of each unit are missing
        self._scores: dict[int, torch.Tensor] = {}
        self._centre: dict[int, EpisodeResult] = {}
        self._centre_left = list(reversed(range(evaluations)))
        self._results, self._steps = 0, 0  # all that are in
        self._whole, self.steps = 0, 0  # units 0, 1, 2, ... that are in, and the steps of their episodes
        self._closed = False

    def _empty(self, kind: Any, *shape: int) -> npt.NDArray[Any]:
        return np.zeros((self._least, self.unit_size, self._rules.per_member, *shape), kind)

    def next_tasks(self) -> tuple[Task, ...] | None:
        """Return the tasks of the next units, or an evaluation of the centre; see `evaluators.protocol.NextTasks`."""
        if self._centre_left:
            return (Task(self.number, CENTRE, self._centre_left.pop()),)
        if self._closed:
            return None
        tasks: list[Task] = []
        for _ in range(self._at_once):
            if self._short():
                tasks += self._next_unit()
        return tuple(tasks)

    def _next_unit(self) -> list[Task]:
        unit = self._begun
        self._begun += 1
        self._missing.append(self.unit_size * self._rules.per_member)
        members = range(unit * self.unit_size, self._begun * self.unit_size)
        worlds = [self._rules.world(unit, member) for member in members]
        return [
            Task(self.number, member, episode, world)
            for member, world in zip(members, worlds, strict=True)
            for episode in range(self._rules.per_member)
        ]

    def add(self, result: EpisodeResult) -> None:
        """Take a result."""
        _, member, episode, _ = result.task
        if member == CENTRE:
            self._centre[episode] = result
            return
        unit, place = divmod(member, self.unit_size)
        at = unit, place, episode  # F30
        self._put("returns", at, result.return_)
        self._put("lengths", at, result.length)
        self._put("truncated", at, result.truncated)
        for name, vector in (("moments", result.moments), ("behaviours", result.behaviour)):
            if vector is not None:
                if name not in self._known:
                    self._known[name] = np.full_like(self._empty(np.float64, len(vector)), np.nan)
                if len(vector) != (size := self._known[name].shape[-1]):
                    raise ValueError(
                        f"a member must have {size} numbers each time, as at first, got {len(vector)}; they are what "
                        "`behaviour` returns, or with `within_prompts` one for each prompt of the batch."
                    )
                self._put(name, at, vector)
        if result.score is not None:
            self._scores[member] = result.score
        self._results += 1
        self._steps += result.length
        self._missing[unit] -= 1
        self._scan()

    def _put(self, name: str, at: tuple[int, int, int], value: Any) -> None:
        array = self._known[name]
        if at[0] >= len(array):  # room for all units begun, and as much again, since copying costs
            nothing = np.nan if array.dtype == np.float64 else 0
            more = np.full((2 * self._begun - len(array), *array.shape[1:]), nothing, array.dtype)
            array = self._known[name] = np.concatenate((array, more))
        array[at] = value

    def _scan(self) -> None:
        """Walk over the complete units, in order, until there are enough."""
        while not self._closed and self._whole < self._begun and not self._missing[self._whole]:
            self.steps += int(self._known["lengths"][self._whole].sum())
            self._whole += 1
            self._closed = self._filled(self._whole, self.steps)

    def _filled(self, units: int, steps: float) -> bool:
        episodes = units * self.unit_size * self._rules.per_member
        return units >= self._least and episodes >= self._min_episodes and steps >= self._min_timesteps

    def _short(self) -> bool:
        """Whether the units begun so far will, at the mean length so far, fall short."""
        begun = self._begun * self.unit_size * self._rules.per_member
        mean = self._steps / self._results if self._results else 1.0
        return not self._filled(self._begun, self._steps + mean * (begun - self._results))

    def _of(self, name: str) -> npt.NDArray[Any]:
        """Return what is known of the complete generation, `(members, episodes, ...)`."""
        array = self._known[name][: self._whole]
        return array.reshape(-1, *array.shape[2:])

    @property
    def outcome(self) -> Outcome:
        """What the members returned, in order; `fitness` is what they are worth to the strategy."""
        behaviours = self._of("behaviours").mean(axis=1) if "behaviours" in self._known else None
        fitness = self._fitness(self.returns, self.lengths, behaviours)
        return Outcome(fitness, self.returns, self.lengths, behaviours)

    @property
    def returns(self) -> Float64Array:
        """Returns as the environment pays them, `(members, episodes)`."""
        return self._of("returns")

    @property
    def lengths(self) -> npt.NDArray[np.uint32]:
        """Steps, `(members, episodes)`."""
        return self._of("lengths")

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """Which episodes a time limit ended, `(members, episodes)`."""
        return self._of("truncated")

    @property
    def centre(self) -> list[EpisodeResult]:
        """The centre's episodes, in order."""
        return [self._centre[episode] for episode in sorted(self._centre)]

    def task(self, number: int) -> Task:
        """Return the task of an episode, counted over the members in order."""
        member, episode = divmod(number, self._rules.per_member)
        return Task(self.number, member, episode, self._rules.world(member // self.unit_size, member))

    def result(self, number: int) -> EpisodeResult:
        """Return the result of an episode, counted over the members in order."""
        parts = {name: array.reshape(-1, *array.shape[3:])[number] for name, array in self._known.items()}
        return EpisodeResult(
            self.task(number), float(parts["returns"]), int(parts["lengths"]), bool(parts["truncated"]),
            parts.get("moments"), None, parts.get("behaviours"),
        )  # fmt: skip

    def seen(self, origin: Float64Array, measured: npt.NDArray[np.bool_]) -> tuple[Moments, npt.NDArray[np.int64]]:
        """Return what the members saw, merged in member order, and which episodes saw a NaN or infinite observation.

        Args:
            origin: The frozen mean that the episodes' sums are relative to.
            measured: `(size,)`: elements that are measured; others may be infinite.
        """
        if "moments" not in self._known:
            return Moments.zero(origin.size), np.empty(0, np.int64)
        sums, lengths = self._of("moments").reshape(-1, 2 * origin.size), self._of("lengths").ravel()
        far = ~np.isfinite(sums)
        finite = ~(far & np.tile(measured, 2)).any(axis=1)
        own = sums[finite]  # a copy
        own[far[finite]] = 0.0  # of what is not measured
        return Moments.of_episodes(lengths[finite], own, origin), np.flatnonzero(~finite & (lengths > 0))

    def score_sum(self, _: object, linear: Float64Array, squared: Float64Array | None = None) -> torch.Tensor:
        """Return the sum of the members' scores, weighted by `linear` `(num_pairs, 2)`, in member order, `(1, dim)`."""
        total = torch.zeros_like(self._scores[0])
        for member, weight in enumerate(linear.ravel().tolist()):
            if weight:
                total.add_(self._scores[member], alpha=weight)
        return total[None]
