"""A function of the perturbed module in place of episodes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

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
from torch_es.types import CENTRE, EpisodeResult, Task

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
        """Evaluate what follows with this snapshot."""
        self._snapshot = snapshot.own()

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
        with self._become([task.member for task in tasks], self._snapshot):
            return self._results(tasks)

    def _results(self, tasks: list[Task]) -> list[EpisodeResult]:
        fitness = self._fitness
        if not isinstance(fitness, BatchFitness):
            return [EpisodeResult(tasks[0], as_number(fitness(self._module)), 1, False, None)]
        if self._batch[0] != tasks[0].generation:
            self._batch = tasks[0].generation, fitness.batches(tasks[0].generation)
        rows = fitness.rows(fitness.fitness_fn(self._module, self._batch[1]))
        return [
            EpisodeResult(task, float(row.mean()), 1, False, None, None, row if fitness.within_prompts else None)
            for task, row in zip(tasks, rows, strict=False)
        ]

    @contextlib.contextmanager
    def _become(self, members: list[int], snapshot: Snapshot) -> Iterator[None]:
        """Let the module be one member, or several, in eval mode."""
        training = [part for part in self._module.modules() if part.training]
        self._module.eval()
        try:
            with kept(self._module), self._perturbed(members, snapshot):
                yield
        finally:
            for part in training:
                part.training = True

    @contextlib.contextmanager
    def _perturbed(self, members: list[int], snapshot: Snapshot) -> Iterator[None]:
        if self._together is not None:
            for slot in range(self.num_lanes):  # slots without a task answer as the centre
                self._together.write(slot, snapshot.factors(members[slot] if slot < len(members) else CENTRE))
            with self._together:
                yield
            return
        try:
            if members != [CENTRE]:
                write_member(self._parameters, snapshot.theta, snapshot.perturbation, members[0])
            prepare(self._module)
            yield
        finally:
            self._parameters.write_module(snapshot.theta)
            prepare(self._module)

    def close(self) -> None:
        """Do nothing: there are no environments."""
