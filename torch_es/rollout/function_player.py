"""A function of the perturbed module in place of episodes."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from torch_es.lanes.together import Together
from torch_es.nn import prepare
from torch_es.nn.buffers import kept
from torch_es.rollout.batch_fitness import BatchFitness
from torch_es.rollout.player import Snapshot
from torch_es.search.low_rank import Part
from torch_es.search.parameters import FlatParameters
from torch_es.search.protocol import as_number, write_member
from torch_es.types import CENTRE, EpisodeResult, Float64Array, Task

_log = logging.getLogger(__name__)

Fitness = Callable[[Any], Any] | BatchFitness


class FunctionPlayer:
    """Evaluates `fitness_fn(module) -> float`, or a `BatchFitness`, in place of episodes.

    One member at a time is written into the module itself, since a large one cannot be had twice. Afterwards the module
    is what it was. Several members at a time answer by `Together`, which leaves the weights as they are.

    Args:
        module: The module.
        fitness: The function.
        parts: How noise of low rank perturbs the parameters, or None.
    """

    steps = 0  # calls of the function

    def __init__(self, module: nn.Module, fitness: Fitness, parts: tuple[Part, ...] | None = None) -> None:
        self._module, self._fitness = module, fitness
        self._parameters = FlatParameters(module)
        self.num_lanes = fitness.members_per_call if isinstance(fitness, BatchFitness) else 1
        self._together = None if self.num_lanes == 1 or parts is None else Together(module, parts, self.num_lanes)
        self._waiting: deque[Task] = deque()
        self._snapshot: Snapshot | None = None
        self._batch: tuple[int, Any] = -1, None  # of a generation

    @property
    def outstanding(self) -> int:
        """How many submitted tasks have no result yet."""
        return len(self._waiting)

    def begin(self, snapshot: Snapshot) -> None:
        """Evaluate what follows with this snapshot; the module gets its centre, which in a worker has moved since."""
        self._snapshot = snapshot.own()
        self._parameters.write_module(snapshot.theta)
        prepare(self._module)

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._waiting.append(task)

    @torch.no_grad()
    def advance(self, interrupt: Callable[[], bool] = lambda: False) -> list[EpisodeResult]:
        """Evaluate as many members as one call takes."""
        if self._snapshot is None:
            raise RuntimeError("begin() must be called before advance().")
        tasks = [self._waiting.popleft() for _ in range(min(self.num_lanes, len(self._waiting)))]
        self.steps += 1
        members = [task.member for task in tasks]
        together = self._together
        with self._evaluating(), self._together_as(together, members) if together else self._being(members[0]):
            results = self._results(tasks)
        if self.steps == 1 and together is not None:
            self._check_alone(results)
        return results

    def _results(self, tasks: list[Task]) -> list[EpisodeResult]:
        fitness = self._fitness
        if not isinstance(fitness, BatchFitness):
            return [EpisodeResult(tasks[0], as_number(fitness(self._module)), 1, False, None)]
        rows = self._rows(fitness, tasks[0].generation)
        return [
            EpisodeResult(task, float(row.mean()), 1, False, None, None, row if fitness.within_prompts else None)
            for task, row in zip(tasks, rows, strict=False)
        ]

    def _rows(self, fitness: BatchFitness, generation: int) -> Float64Array:
        if self._batch[0] != generation:
            self._batch = generation, fitness.batches(generation)
        return fitness.rows(fitness.fitness_fn(self._module, self._batch[1]))

    def _check_alone(self, results: list[EpisodeResult]) -> None:
        """Warn if the first member is worth something else where its weights are the module's own."""
        assert isinstance(self._fitness, BatchFitness)
        task, together = results[0].task, results[0].return_
        with self._evaluating(), self._being(task.member):
            alone = float(self._rows(self._fitness, task.generation)[0].mean())
        spread = float(np.std([result.return_ for result in results]))
        if not abs(together - alone) <= 0.2 * spread + 1e-6 * abs(alone):
            _log.warning(
                "Member %d scores %.6g in one call with others, and %.6g by itself: rows of the module's batch depend "
                "on each other or on chance, or rounding decides. `members_per_call=1` is safe.",
                task.member, together, alone,
            )  # fmt: skip

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Put the module into eval mode, and its modes and buffers back."""
        training = [part for part in self._module.modules() if part.training]
        self._module.eval()
        try:
            with kept(self._module):
                yield
        finally:
            for part in training:
                part.training = True

    @contextlib.contextmanager
    def _together_as(self, together: Together, members: list[int]) -> Iterator[None]:
        """Let the module answer for several members; slots without one answer as the centre."""
        assert self._snapshot is not None
        slots = [*members, *[CENTRE] * (self.num_lanes - len(members))]
        together.write(self._snapshot.draws(slots, next(iter(self._parameters.named.values())).device))
        with together:
            yield

    @contextlib.contextmanager
    def _being(self, member: int) -> Iterator[None]:
        """Let the module have one member's weights."""
        assert self._snapshot is not None
        snapshot = self._snapshot
        try:
            if member != CENTRE:
                write_member(self._parameters, snapshot.theta, snapshot.perturbation, member)
            prepare(self._module)
            yield
        finally:
            self._parameters.write_module(snapshot.theta)
            prepare(self._module)

    def close(self) -> None:
        """Do nothing: there are no environments."""
