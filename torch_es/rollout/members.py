"""The weights of the members of a generation, made one at a time from their seeds."""

from __future__ import annotations

import numpy as np
import torch

from torch_es.search import perturbed
from torch_es.search.noise import Noise
from torch_es.types import Snapshot, Task


class Members:
    """Weights of the members of the current snapshot."""

    def __init__(self, seed: int, dim: int) -> None:
        self.noise = Noise(seed, dim)
        self._eps = np.empty(dim, np.float32)
        self._drawn: tuple[int, int] | None = None
        self._theta = torch.empty(0)

    def begin(self, snapshot: Snapshot) -> None:
        """Make what follows around this snapshot's theta."""
        self._snapshot = snapshot
        self._drawn = None
        if self._theta.dtype != snapshot.theta.dtype or not len(self._theta):
            self._theta = torch.empty_like(snapshot.theta)

    def theta(self, task: Task) -> torch.Tensor:
        """Return the member's weights, in a buffer that the next call writes over."""
        snapshot = self._snapshot
        if task.sign == 0:
            return snapshot.theta
        if self._drawn != task[:2]:  # the other half of the pair most often comes next
            self.noise.fill(self._eps, task.generation, task.pair)
            self._drawn = task[:2]
        return perturbed(snapshot.theta, snapshot.sigma, task.sign, torch.from_numpy(self._eps), out=self._theta)
