"""Changes that a user makes to the module between two calls: training starts from the present values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from torch_es.search import Strategy


class Present:
    """Takes a module's present weights into the centre, and notices when its buffers change.

    Args:
        strategy: Holds the centre.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._buffers: dict[str, Tensor] = {}

    def take(self, buffers: Mapping[str, Tensor]) -> bool:
        """Take the weights; return whether the buffers, of which workers have copies, changed since the last time.

        Raises:
            ValueError: If other parameters are trainable, or a weight is not finite.
        """
        parameters = self._strategy.parameters
        if parameters.changed(self._strategy.theta):
            self._strategy.move(parameters.read_module())
        before = self._buffers
        if before.keys() == buffers.keys() and all(torch.equal(before[name], b) for name, b in buffers.items()):
            return False
        self._buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        return True
