"""A function of the perturbed module in place of episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from torch_es.nn import prepare
from torch_es.nn.carried import copied
from torch_es.rollout.player import Snapshot
from torch_es.search.parameters import FlatParameters
from torch_es.search.protocol import as_number
from torch_es.types import EpisodeResult, Task


class FunctionPlayer:
    """Evaluates `fitness_fn(module) -> float` in place of episodes, one member at a time, on a copy in eval mode."""

    num_lanes = 1
    steps = 0  # members evaluated

    def __init__(self, module: nn.Module, fitness_fn: Callable[[Any], float]) -> None:
        self._module = copied(module)
        self._buffers = {n: b.detach().clone() for n, b in module.named_buffers()}
        self._parameters = FlatParameters(self._module)
        self._weights = self._parameters.read_masters()
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
        self._parameters.write_module(self._snapshot.weights(task.member, self._weights))
        for name, buffer in self._module.named_buffers():
            buffer.copy_(self._buffers[name])
        prepare(self._module)
        with torch.no_grad():
            fitness = self._fitness_fn(self._module)
        return [EpisodeResult(task, as_number(fitness), 1, False, None)]

    def close(self) -> None:
        """Do nothing: there are no environments."""
