"""The random numbers of each lane's noisy actions, and what is needed for an episode's score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from torch_es.heads import ActionNoise
from torch_es.rollout.score import Scorer
from torch_es.seeding import derive
from torch_es.types import CENTRE, Float32Array, Task


class Draws:
    """The random numbers of each lane's action noise; the centre gets zeros, which mean no noise.

    If the search is by actions alone, `scorer` is set, and what each lane's network saw is kept with its draws.
    """

    def __init__(self, noise: ActionNoise, num_lanes: int, seed: int) -> None:
        self.noise, self._seed = noise, seed
        self._generators: list[np.random.Generator | None] = [None] * num_lanes
        self.rows = np.zeros((num_lanes, noise.size), np.float32)
        self.scorer: Scorer | None = None
        self._steps: list[list[tuple[Float32Array, Float32Array]]] = [[] for _ in range(num_lanes)]

    def start(self, lane: int, task: Task) -> None:
        """Begin the stream of the task's episode; the two members of a pair have different streams."""
        self.rows[lane] = 0.0
        self._steps[lane] = []
        half = task.member & 1  # the stream of a member is named by its pair and sign
        path = (task.generation, task.member >> 1, -1 if half else 1, task.episode)
        words = derive("action", self._seed, *path, size=16)
        stream = np.random.Generator(np.random.SFC64(int.from_bytes(words, "little")))
        self._generators[lane] = None if task.member == CENTRE else stream

    def act(self, inputs: Float32Array, outputs: Float32Array, active: Sequence[int]) -> Any:
        """Return the next actions, for the inputs and outputs of the lanes' networks."""
        for lane in active:
            if (generator := self._generators[lane]) is not None:
                self.rows[lane] = self.noise.draw(generator)
                if self.scorer is not None:
                    self._steps[lane].append((inputs[lane].copy(), self.rows[lane].copy()))
        return self.noise(outputs, self.rows)

    def score(self, lane: int) -> torch.Tensor | None:
        """Return the score of the lane's episode; None for the centre's, or where no scores are needed."""
        if self.scorer is None or not self._steps[lane]:
            return None
        inputs, draws = (np.stack(column) for column in zip(*self._steps[lane], strict=True))
        return self.scorer.score(inputs, draws)
