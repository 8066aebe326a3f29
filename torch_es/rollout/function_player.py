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
from torch_es.rollout.batch_fitness import BatchFitness
from torch_es.rollout.player import Snapshot
from torch_es.search.low_rank import Part
from torch_es.search.parameters import FlatParameters, kept_buffers
from torch_es.search.protocol import as_number, write_member
from torch_es.types import CENTRE, EpisodeResult, Float64Array, Task

_log = logging.getLogger(__name__)

Fitness = Callable[[Any], Any] | BatchFitness


def members_per_call(fitness: Fitness) -> int:
    """Return how many members one call of a function answers for."""
    return fitness.members_per_call if isinstance(fitness, BatchFitness) else 1


class FunctionPlayer:
    """Evaluates `fitness_fn(module) -> float`, or a `BatchFitness`, in place of episodes.

    One member at a time is written into the module itself, since a large one cannot be had twice. Afterwards its
    trainable weights, buffers and modes are what they were. Several members at a time answer by `Together`, which
    leaves the weights as they are. They are always the same neighbours, each in the same slot. The last bits of a row
    depend on its place in a product, so those of a member follow from its number alone.

    Args:
        module: The module.
        fitness: The function.
        parts: How noise of low rank perturbs the parameters, or None.
    """

    steps = 0  # calls of the function

    def __init__(self, module: nn.Module, fitness: Fitness, parts: tuple[Part, ...] | None = None) -> None:
        self._module, self._fitness = module, fitness
        self._parameters = FlatParameters(module)
        self.num_lanes = members_per_call(fitness)
        self._together = None if self.num_lanes == 1 or parts is None else Together(module, parts, self.num_lanes)
        self._checked = self._together is None
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
        """Evaluate the members of one call."""
        if self._snapshot is None:
            raise RuntimeError("begin() must be called before advance().")
        tasks = self._next()
        member = tasks[0].member
        self.steps += 1
        together = self._together
        with self._evaluating(), self._together_around(together, member) if together else self._being(member):
            results = self._results(tasks)
            self._parameters.trainable()  # members are written into those that it was given with
        if not self._checked and len(tasks) > 1 and member != CENTRE:
            self._checked = True
            # a module that mixes rows may leave the first of them right
            if self._answers_alone(results[0], results):
                self._answers_alone(results[-1], results)
        return results

    def _next(self) -> list[Task]:
        """Take the first task that waits, and those that the same call answers."""
        call, _ = self._place(self._waiting[0])
        tasks = [task for task in self._waiting if self._place(task)[0] == call]
        self._waiting = deque(task for task in self._waiting if self._place(task)[0] != call)
        return tasks

    def _place(self, task: Task) -> tuple[tuple[bool, int], int]:
        """Return which call answers a task, and in which slot; evaluations of the centre have calls of their own."""
        centre = task.member == CENTRE
        call, slot = divmod(task.episode if centre else task.member, self.num_lanes)
        return (centre, call), slot

    def _results(self, tasks: list[Task]) -> list[EpisodeResult]:
        fitness = self._fitness
        if not isinstance(fitness, BatchFitness):
            return [EpisodeResult(tasks[0], as_number(fitness(self._module)), 1, False, None)]
        rows = self._rows(fitness, tasks[0].generation)
        results = []
        for task in tasks:
            row = rows[self._place(task)[1]]
            of_prompts = row if fitness.within_prompts else None
            results.append(EpisodeResult(task, float(row.mean()), 1, False, None, None, of_prompts))
        return results

    def _rows(self, fitness: BatchFitness, generation: int) -> Float64Array:
        if self._batch[0] != generation:
            self._batch = generation, fitness.batches(generation)
        return fitness.answers(self._module, self._batch[1])

    def _answers_alone(self, result: EpisodeResult, results: list[EpisodeResult]) -> bool:
        """Whether a member is worth the same in every slot, where its weights are the module's own; warn if not."""
        assert isinstance(self._fitness, BatchFitness)
        task, together = result.task, result.return_
        with self._evaluating(), self._being(task.member):
            alone = self._rows(self._fitness, task.generation).mean(axis=1)
        scores = np.array([result.return_ for result in results])
        near = 0.2 * np.std(scores[np.isfinite(scores)] if np.isfinite(scores).any() else 0.0)
        near += 1e-6 * np.abs(alone[np.isfinite(alone)]).max(initial=0.0)
        if np.allclose(alone, together, rtol=0, atol=near, equal_nan=True):
            return True
        if np.allclose(alone, alone[0], rtol=0, atol=near, equal_nan=True):
            _log.warning(
                "Member %d scores %.6g in one call with others, and %.6g by itself: rows of the module's batch depend "
                "on each other, or rounding decides. `members_per_call=1` is safe.", task.member, together, alone[0],
            )  # fmt: skip
        else:
            _log.warning(
                "Member %d scores %.6g to %.6g in the slots of one call, all of which have its weights: they answer "
                "other prompts, or chance decides. Each needs the whole batch, members first, as "
                "`x.repeat(members_per_call, 1)` has it.", task.member, alone.min(), alone.max(),
            )  # fmt: skip
        return False

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Put the module into eval mode, and its modes and buffers back."""
        training = {part: part.training for part in self._module.modules()}
        self._module.eval()
        try:
            with kept_buffers(self._module):
                yield
        finally:
            for part, mode in training.items():
                part.training = mode

    @contextlib.contextmanager
    def _together_around(self, together: Together, member: int) -> Iterator[None]:
        """Let the module answer for a member and its neighbours, whether they are wanted or not, or for the centre."""
        assert self._snapshot is not None
        first = member - member % self.num_lanes
        slots = [CENTRE] * self.num_lanes if member == CENTRE else range(first, first + self.num_lanes)
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
