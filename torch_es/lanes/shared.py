"""Lanes that share one copy of the weights, for noise of low rank: a chain of linear layers and activations in NumPy.

A layer is one product for all lanes, and a thin one for each. Trap: a row of a product may get other bits with another
number of rows, and in small layers even with its position. So a product has `ROWS` rows, whatever the number of lanes.
A layer whose rows then still depend on their position runs lane by lane. A member's bits never depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.lanes.chain import Kernel, activation, chain
from torch_es.nn.observation_norm import Statistics
from torch_es.search.low_rank import Factors, Part, one_thread
from torch_es.search.noise import room
from torch_es.search.parameters import FlatParameters
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array

ROWS = 16  # of each product

Product = Callable[[Tensor, Tensor], Any]


class SharedWeights:
    """The centre's weights, and for each slot what a member differs by.

    Attributes:
        theta: The centre, `(dim,)`.
        draws: For each slot the scaled draws, `(slots, num_draws)`; for dense noise the member's weights themselves.
    """

    def __init__(self, network: nn.Module, parts: tuple[Part, ...], num_lanes: int) -> None:
        if any(p.dtype != torch.float32 for p in network.parameters()):
            raise NotImplementedError("only float32 networks share their weights")
        slots = -(-num_lanes // ROWS) * ROWS
        self.parts = parts
        self.theta = torch.zeros(parts[-1].stop, dtype=torch.float32, device="cpu")
        self.draws = room(slots, parts[-1].first + parts[-1].num_draws).zero_()
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


class GroupedRows:
    """Rows of lanes in groups of `ROWS`; a group without an active lane is left out. All is done by one thread."""

    def __init__(self, slots: int, size: int) -> None:
        self._inputs = np.zeros((slots, size), np.float32)
        self._outputs: Float32Array | None = None

    def answered(
        self, rows: Float32Array, active: Sequence[int], forward: Callable[[int, Float32Array], Float32Array]
    ) -> Float32Array:
        """Return what `forward(number, rows)` answers for each group, `(len(rows), size)`."""
        self._inputs[: len(rows)] = rows
        with one_thread():
            for number in sorted({lane // ROWS for lane in active}):
                group = slice(number * ROWS, (number + 1) * ROWS)
                answer = forward(number, self._inputs[group])
                if self._outputs is None:
                    self._outputs = np.zeros((len(self._inputs), answer.shape[1]), np.float32)
                self._outputs[group] = answer
        assert self._outputs is not None
        return self._outputs[: len(rows)].copy()  # an environment may keep what a head makes of it


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
        self._weights = SharedWeights(network, parts, num_lanes)
        self._rows = GroupedRows(len(self._weights.draws), layout.size)
        self._turned: list[tuple[Tensor, Tensor]] = []  # transposes of matrices, and copies of them
        named = {part.name: part for part in parts}
        self._own = {id(p): named[name] for name, p in FlatParameters(network).named.items()}
        layers = [(layer, self._product(layer) if type(layer) is nn.Linear else None) for layer in chain(network)]
        self._groups = [  # each a function of rows `(ROWS, size)`
            [self._linear(*each, group) if type(each[0]) is nn.Linear else activation(each[0]) for each in layers]
            for group in self._weights.draws.split(ROWS)
        ]

    def write(self, lane: int, factors: Factors) -> None:
        """See `Lanes.write`; a chain has no buffers."""
        if self._weights.write(lane, factors):
            for transpose, turned in self._turned:
                turned.copy_(transpose)

    def begin(self, reference: Float32Array | None, scale: Statistics | None) -> None:
        """See `Lanes.begin`; nothing in a chain is prepared."""
        self._weights.renew()

    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        return self._rows.answered(rows, active, self._group_forward)

    def _group_forward(self, number: int, x: Float32Array) -> Float32Array:
        for step in self._groups[number]:
            x = step(x)
        return x

    def _product(self, layer: Any) -> Product | None:
        """Return `x @ weight.T` as a function of x and where to write it; None if each lane has a matrix of its own.

        The weight's values may change.
        """
        part = self._own.get(id(layer.weight))
        if part is not None and not part.rank:
            return None
        theta = self._weights.theta
        weight = layer.weight.detach() if part is None else theta[part.start : part.stop].view(layer.weight.shape)
        if not independent(weight.shape):
            return lambda x, out: np.matmul(weight.numpy(), x.numpy()[:, :, None], out=out.numpy()[:, :, None])
        turned = weight.t().contiguous()  # a product with it takes half of the time
        self._turned.append((weight.t(), turned))
        return lambda x, out: torch.mm(x, turned, out=out)

    def _linear(self, layer: Any, product: Product | None, draws: Tensor) -> Kernel:
        """Return the layer of a group of lanes as a function that reuses its buffers for its results."""
        part, bias = self._own.get(id(layer.weight)), self._bias(layer, draws)
        given, answer = room(ROWS, layer.in_features), room(ROWS, layer.out_features)
        seen, out = given.numpy(), answer.numpy()
        if product is None:
            assert part is not None
            each, column = part.dense(draws).view(ROWS, *layer.weight.shape).numpy(), out[:, :, None]

            def multiply(x: Float32Array) -> None:
                np.matmul(each, x[:, :, None], out=column)

        elif part is None:  # frozen

            def multiply(x: Float32Array) -> None:
                np.copyto(seen, x)
                product(given, answer)

        else:
            left, right = (factor.numpy() for factor in part.factors(draws))
            inner, thin = np.empty((ROWS, part.rank, 1), np.float32), np.empty((ROWS, 1, part.rows), np.float32)
            across, added = inner.transpose(0, 2, 1), thin[:, 0]
            spread = np.multiply if part.rank == 1 else np.matmul  # the same, but faster

            def multiply(x: Float32Array) -> None:
                np.copyto(seen, x)
                product(given, answer)
                np.matmul(right, seen[:, :, None], out=inner)
                spread(across, left, out=thin)
                np.add(out, added, out=out)

        def linear(x: Float32Array) -> Float32Array:
            multiply(x)
            return out if bias is None else np.add(out, bias, out=out)

        return linear

    def _bias(self, layer: Any, draws: Tensor) -> Float32Array | None:
        if layer.bias is None:
            return None
        part = self._own.get(id(layer.bias))
        found: Tensor = layer.bias.detach() if part is None else part.dense(draws)
        array: Float32Array = found.numpy()
        return array


def independent(shape: Sequence[int], multiply: Callable[[Tensor, Tensor], Tensor] = torch.mm) -> bool:
    """Return whether a row of a product has the same bits wherever it stands and whatever stands beside it.

    Args:
        shape: Of the weight, `(outputs, inputs)`; it is multiplied with `ROWS` rows of inputs.
        multiply: Makes the product.

    Example:
        >>> independent((256, 348))
        True
    """
    generator, answers = torch.Generator().manual_seed(0), set()
    draw = partial(torch.randn, generator=generator, dtype=torch.float32, device="cpu")
    weight, row = draw(shape[1], shape[0]), draw(shape[1])
    with one_thread():
        for at in range(ROWS):
            x = draw(ROWS, shape[1])
            x[at] = row
            answers.add(multiply(x, weight)[at].numpy().tobytes())
    return len(answers) == 1
