"""Lanes that share one copy of the weights, for noise of low rank: a chain of linear layers and activations in NumPy.

A layer is one product for all lanes, and a thin one for each. Trap: a row of a product may get other bits with another
number of rows, and in small layers even with its position. So a product has `ROWS` rows, whatever the number of lanes.
A layer whose rows then still depend on their position runs lane by lane. A member's bits never depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.lanes.chain import Kernel, activation, chain
from torch_es.nn.observation_norm import Statistics
from torch_es.search.low_rank import Factors, Part
from torch_es.search.parameters import FlatParameters
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array

ROWS = 16  # of each product


class SharedWeights:
    """The centre's weights, and for each slot what a member differs by.

    Attributes:
        theta: The centre, `(dim,)`.
        draws: For each slot the scaled draws, `(slots, num_draws)`; for dense noise the member's weights themselves.
    """

    def __init__(self, parts: tuple[Part, ...], slots: int) -> None:
        self.parts = parts
        self.theta = torch.zeros(parts[-1].stop)
        self.draws = torch.zeros(slots, parts[-1].first + parts[-1].num_draws)
        self._rows = self.draws.numpy()
        self._offset = np.zeros(self.draws.shape[1], np.float32)  # the centre's weights where noise is dense
        self._stale = True

    def renew(self) -> None:
        """Take the centre anew with the next member: it has moved."""
        self._stale = True

    def write(self, slot: int, factors: Factors) -> bool:
        """Give a slot a member; return whether the centre was taken anew."""
        stale, self._stale = self._stale, False
        if stale:
            self.theta.copy_(factors.theta)
            for part in self.parts:
                if not part.rank:
                    self._offset[part.first : part.first + part.rows] = self.theta[part.start : part.stop].numpy()
        row = np.multiply(factors.draws, factors.scales, out=self._rows[slot])
        row += self._offset
        return stale


class SharedLanes:
    """A `Sequential` of linear layers and activations whose lanes share the centre's weights."""

    def __init__(
        self,
        network: nn.Module,
        num_lanes: int,
        layout: Layout,
        reference: Float32Array | None,
        parts: tuple[Part, ...],
    ) -> None:
        if any(p.dtype != torch.float32 for p in network.parameters()):
            raise NotImplementedError("only float32 chains are stacked")
        slots = -(-num_lanes // ROWS) * ROWS
        self._weights = SharedWeights(parts, slots)
        self._inputs = np.zeros((slots, layout.size), np.float32)
        self._turned: list[tuple[Float32Array, Float32Array]] = []  # matrices, and copies of their transposes
        named = {part.name: part for part in parts}
        own = {id(p): named[name] for name, p in FlatParameters(network).named.items()}
        self._steps = [  # each a function of rows `(slots, size)`
            self._linear(layer, own) if type(layer) is nn.Linear else activation(layer) for layer in chain(network)
        ]

    def write(self, lane: int, factors: Factors) -> None:
        """See `Lanes.write`; a chain has no buffers."""
        if self._weights.write(lane, factors):
            for matrix, turned in self._turned:
                np.copyto(turned, matrix.T)

    def begin(self, reference: Float32Array | None, scale: Statistics | None) -> None:
        """See `Lanes.begin`; nothing in a chain is prepared."""
        self._weights.renew()

    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        x = self._inputs
        x[: len(rows)] = rows
        for step in self._steps:
            x = step(x)
        return x[: len(rows)]

    def _linear(self, layer: nn.Linear, own: dict[int, Part]) -> Kernel:
        """Return the layer as a function that reuses its buffers for its results."""
        weights, slots = self._weights, len(self._inputs)
        part, bias = own.get(id(layer.weight)), _bias(layer, weights, own)
        out = np.empty((slots, layer.out_features), np.float32)

        def finished(y: Float32Array) -> Float32Array:
            return y if bias is None else np.add(y, bias, out=y)

        if part is not None and not part.rank:  # a matrix for each lane
            each = part.dense(weights.draws).view(slots, *layer.weight.shape).numpy()
            column = out[:, :, None]
            return lambda x: finished(np.matmul(each, x[:, :, None], out=column)[:, :, 0])
        if part is None:  # frozen
            product = self._product(layer.weight.detach().numpy(), out)
            return lambda x: finished(product(x))
        product = self._product(weights.theta[part.start : part.stop].view(layer.weight.shape).numpy(), out)
        left, right = (factor.numpy() for factor in part.factors(weights.draws))
        inner, thin = np.empty((slots, part.rank, 1), np.float32), np.empty((slots, 1, part.rows), np.float32)

        def linear(x: Float32Array) -> Float32Array:
            np.matmul(right, x[:, :, None], out=inner)
            np.matmul(inner.transpose(0, 2, 1), left, out=thin)
            return finished(np.add(product(x), thin[:, 0], out=out))

        return linear

    def _product(self, weight: Float32Array, out: Float32Array) -> Kernel:
        """Return `x @ weight.T` as a function; the weight's values may change, its form stays."""
        if not independent(weight.shape):
            return lambda x: np.matmul(weight, x[:, :, None], out=out[:, :, None])[:, :, 0]
        turned, stacked = weight.T.copy(), out.reshape(-1, ROWS, out.shape[1])  # which takes half of the time
        self._turned.append((weight, turned))

        def product(x: Float32Array) -> Float32Array:
            np.matmul(x.reshape(-1, ROWS, x.shape[1]), turned, out=stacked)
            return out

        return product


def independent(shape: Sequence[int], multiply: Callable[..., Float32Array] = np.matmul) -> bool:
    """Return whether a row of a product has the same bits wherever it stands and whatever stands beside it.

    Args:
        shape: Of the weight, `(outputs, inputs)`; it is multiplied with `ROWS` rows of inputs.
        multiply: Makes the product.

    Example:
        >>> independent((256, 348))
        True
    """
    generator, answers = np.random.default_rng(0), set()
    weight = generator.standard_normal((shape[1], shape[0]), dtype=np.float32)
    row = generator.standard_normal(shape[1], dtype=np.float32)
    for at in range(ROWS):
        x = generator.standard_normal((ROWS, shape[1]), dtype=np.float32)
        x[at] = row
        answers.add(multiply(x, weight)[at].tobytes())
    return len(answers) == 1


def _bias(layer: nn.Linear, weights: SharedWeights, own: dict[int, Part]) -> Float32Array | None:
    if layer.bias is None:
        return None
    part = own.get(id(layer.bias))
    found: Tensor = layer.bias.detach() if part is None else part.dense(weights.draws)
    array: Float32Array = found.numpy()
    return array
