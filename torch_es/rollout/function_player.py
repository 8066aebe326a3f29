"""A function of the perturbed module in place of episodes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from torch_es.nn import prepare
from torch_es.rollout.player import Snapshot
from torch_es.search.parameters import FlatParameters
from torch_es.search.protocol import as_number, write_member
from torch_es.types import CENTRE, EpisodeResult, Task


class FunctionPlayer:
    """Evaluates `fitness_fn(module) -> float` in place of episodes, one member at a time.

    The member's weights are written into the module itself, since a large one cannot be had twice. Afterwards the
    module is what it was.
    """

    num_lanes = 1
    steps = 0  # members evaluated

    def __init__(self, module: nn.Module, fitness_fn: Callable[[Any], float]) -> None:
        self._module = module
        self._parameters = FlatParameters(module)
        self._fitness_fn = fitness_fn
        self._waiting: deque[Task] = deque()
        self._snapshot: Snapshot | None = None

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

    def advance(self, interrupt: Callable[[], bool] = lambda: False) -> list[EpisodeResult]:
        """Evaluate one member."""
        if self._snapshot is None:
            raise RuntimeError("begin() must be called before advance().")
        task = self._waiting.popleft()
        self.steps += 1
        with self._become(task.member, self._snapshot), torch.no_grad():
            fitness = self._fitness_fn(self._module)
        return [EpisodeResult(task, as_number(fitness), 1, False, None)]

    @contextlib.contextmanager
    def _become(self, member: int, snapshot: Snapshot) -> Iterator[None]:
        """Let the module be a member, in eval mode."""
        module, training = self._module, [part for part in self._module.modules() if part.training]
        buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
        module.eval()
        try:
            if member != CENTRE:
                write_member(self._parameters, snapshot.theta, snapshot.perturbation, member)
            prepare(module)
            yield
        finally:
            self._parameters.write_module(snapshot.theta)
            for name, buffer in module.named_buffers():
                buffer.detach().copy_(buffers[name])
            for part in training:
                part.training = True
            prepare(module)

    def close(self) -> None:
        """Do nothing: there are no environments."""
