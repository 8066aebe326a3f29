"""The random numbers of each lane's noisy actions, and what is needed for an episode's score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from torch_es.heads import ActionNoise
from torch_es.policies import Policy
from torch_es.rollout.score import Scorer
from torch_es.seeding import derive
from torch_es.types import CENTRE, Float32Array, Task


class Draws:
    """The random numbers of each lane's action noise; the centre gets zeros, which mean no noise."""

    def __init__(self, noise: ActionNoise, num_lanes: int, seed: int) -> None:
        self._noise, self._seed = noise, seed
        self._generators: list[np.random.Generator | None] = [None] * num_lanes
        self.rows = np.zeros((num_lanes, noise.size), np.float32)

    def start(self, lane: int, task: Task) -> None:
        """Begin the stream of the task's episode; the two members of a pair have different streams."""
        self.rows[lane] = 0.0
        half = task.member & 1  # the stream of a member is named by its pair and sign
        path = (task.generation, task.member >> 1, -1 if half else 1, task.episode)
        words = derive("action", self._seed, *path, size=16)
        stream = np.random.Generator(np.random.SFC64(int.from_bytes(words, "little")))
        self._generators[lane] = None if task.member == CENTRE else stream

    def act(self, outputs: Float32Array, active: Sequence[int]) -> Any:
        """Return the next actions."""
        for lane in active:
            if (generator := self._generators[lane]) is not None:
                self.rows[lane] = self._noise.draw(generator)
        return self._noise(outputs, self.rows)


class Trail:
    """What each lane's network saw and which draws its actions took, from which the score of its episode follows."""

    def __init__(self, network: nn.Module, policy: Policy, num_lanes: int) -> None:
        assert policy.action_noise is not None
        self.scorer = Scorer(network, policy.layout, policy.action_noise)
        self._steps: list[list[tuple[Float32Array, Float32Array]]] = [[] for _ in range(num_lanes)]

    def start(self, lane: int) -> None:
        """Begin an episode."""
        self._steps[lane] = []

    def keep(self, active: Sequence[int], inputs: Float32Array, draws: Float32Array) -> None:
        """Take a step of the active lanes."""
        for lane in active:
            self._steps[lane].append((inputs[lane].copy(), draws[lane].copy()))

    def score(self, lane: int) -> torch.Tensor:
        """Return the score of the lane's episode."""
        inputs, draws = (np.stack(column) for column in zip(*self._steps[lane], strict=True))
        return self.scorer.score(inputs, draws)
