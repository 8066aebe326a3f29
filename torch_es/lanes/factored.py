"""Lanes that share one copy of the weights, for noise of low rank: any module that can be traced.

One lane is traced into plain operations, as for `TracedLanes`. Then the trace is played with the matrices as the
centre's and two thin factors, and `vmap` batches this. An operation that is linear in a matrix becomes one product for
all lanes, and a thin one each; any other gets the sum, which is right for every operation and shares nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional
from torch.utils._pytree import tree_map

from torch_es.lanes.modules import Member, plain_kernels, stacked, traced
from torch_es.lanes.shared import ROWS, GroupedRows, SharedWeights, independent
from torch_es.nn.observation_norm import Statistics
from torch_es.search.low_rank import Factors, Part
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array

_aten = torch.ops.aten
_EACH = True, True  # `summed` of a matrix that each lane has for itself


class Matrix:
    """A member's matrix `weight + left.T @ right`, of which only the thin factors are its own.

    Args:
        weight: The centre's, of the parameter's shape; without factors, the member's own.
        factors: `left` `(rank, rows)` and `right` `(rank, columns)`.
        summed: Whether the bits of `x @ weight` depend on which row of x is whose, and those of `x @ weight.t()`.
        turned: Whether it stands for its transpose.
    """

    def __init__(
        self, weight: Tensor, factors: tuple[Tensor, Tensor] | None, summed: tuple[bool, bool], turned: bool = False
    ) -> None:
        self.weight, self.factors, self.summed, self.turned = weight, factors, summed, turned

    def sum(self) -> Tensor:
        """Return the matrix."""
        whole = self.weight
        if self.factors is not None:
            left, right = self.factors
            whole = whole + (left.t() @ right).view(whole.shape)
        return whole.t() if self.turned else whole

    def transposed(self) -> Matrix:
        """Return the transpose."""
        return Matrix(self.weight, self.factors, self.summed, not self.turned)

    def times(self, x: Tensor) -> Tensor:
        """Return `x @ matrix` for x `(n, ...)`."""
        weight = self.weight.t() if self.turned else self.weight
        whole = _summed(x, weight.t()) if self.summed[self.turned] else x @ weight
        if self.factors is None:
            return whole
        first, second = reversed(self.factors) if self.turned else self.factors
        return whole + _spread(_summed(x, first), second)

    def looked_up(self, index: Tensor) -> Tensor:
        """Return the rows of these indices."""
        whole = functional.embedding(index, self.weight)
        if self.factors is None:
            return whole
        left, right = self.factors
        return whole + _spread(functional.embedding(index, left.t()), right)

    def convolved(self, x: Tensor, bias: Any, *options: Any) -> Any:
        """Return `aten.convolution` of x with the matrix as filters; by a transposed one, `NotImplemented`."""
        transposed, groups = options[3], options[5]
        if transposed or self.factors is None:
            return NotImplemented
        whole = _aten.convolution.default(x, self.weight, bias, *options)
        left, right = self.factors
        rank, filters = len(right), right.view(len(right), *self.weight.shape[1:])
        inner = _aten.convolution.default(x, filters.repeat(groups, *[1] * (filters.dim() - 1)), None, *options)
        inner = inner.unflatten(1, (groups, rank))
        thin = torch.einsum("ngr...,rgo->ngo...", inner, left.unflatten(1, (groups, -1)))
        return whole + thin.flatten(1, 2)


def _summed(x: Tensor, rows: Tensor) -> Tensor:
    """Return `x @ rows.t()` as sums: the bits of a matrix product may depend on where its factors begin in memory."""
    return (x[..., None, :] * rows).sum(-1)


def _spread(inner: Tensor, second: Tensor) -> Tensor:
    """Return `inner @ second` for inner `(..., rank)`, as sums too."""
    return (inner[..., None] * second).sum(-2)


# of an operation with a matrix: which argument it may be, and what is done instead
_RULES: dict[Any, tuple[int, Callable[..., Any]]] = {
    _aten.t.default: (0, Matrix.transposed),
    _aten.detach.default: (0, lambda matrix: matrix),
    _aten.mm.default: (1, lambda x, matrix: matrix.times(x)),
    _aten.addmm.default: (2, lambda bias, x, matrix: matrix.times(x) + bias),
    _aten.embedding.default: (0, lambda matrix, index, *_: matrix.looked_up(index)),
    _aten.convolution.default: (1, lambda x, matrix, bias, *options: matrix.convolved(x, bias, *options)),
}


class _Player(fx.Interpreter):
    """Plays a trace in which some inputs are a `Matrix`."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        held = [place for place, value in enumerate(args) if isinstance(value, Matrix)]
        place, rule = _RULES.get(target, (-1, None))
        answer = rule(*args) if rule is not None and held == [place] and not kwargs else NotImplemented
        if answer is NotImplemented:
            if held and target._schema.is_mutable:
                raise NotImplementedError(f"{target} writes into a sum of factors, which is forgotten")
            args, kwargs = tree_map(lambda value: value.sum() if isinstance(value, Matrix) else value, (args, kwargs))
            answer = super().call_function(target, args, kwargs)
        return answer


class FactoredLanes:
    """Any module that can be traced, its matrices shared by all lanes but for thin factors."""

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
        member = self._member = Member(network, layout)
        self.begin(reference, None)
        one, _, *kept = traced(member, layout.size)
        self._vector = torch.empty_like(self._weights.theta)
        summed = {
            part.name: (_depends(part.rows, part.columns), _depends(part.columns, part.rows))
            for part in parts
            if part.rank and member.parameters.named[part.name].dim() == 2  # of filters there are no products
        }
        # buffers and states of each group of lanes
        self._groups = [stacked(kept, ROWS) for _ in range(0, num_lanes, ROWS)]

        def call(theta: Tensor, draws: Tensor, inputs: Any, buffers: Any, state: Any) -> Any:
            shared = member.parameters.views(theta)
            own = {part.name: _own(part, shared[part.name], draws, summed.get(part.name, _EACH)) for part in parts}
            return _Player(one).run(own, buffers, inputs, state)

        inputs = member.inputs(np.zeros((ROWS, layout.size), np.float32))
        given = self._weights.theta, self._weights.draws[:ROWS], inputs, *self._groups[0]
        with plain_kernels():
            self._graph = make_fx(vmap(call, in_dims=(None, 0, 0, 0, 0)))(*given)

    def begin(self, reference: Float32Array | None, scale: Statistics | None) -> None:
        """See `Lanes.begin`."""
        self._member.begin(reference, scale)
        self._weights.renew()

    def write(self, lane: int, factors: Factors) -> None:
        """See `Lanes.write`; what a network derives from its weights, it derives from the vector of them."""
        self._weights.write(lane, factors)
        state = self._member.start(factors.weights(self._weights.parts, self._vector))
        (buffers, states), slot = self._groups[lane // ROWS], lane % ROWS
        for name, buffer in self._member.network.named_buffers():
            buffers[name][slot] = buffer
        tree_map(lambda all_, own: all_[slot].copy_(own), states, state)

    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        return self._rows.answered(rows, active, self._group_forward)

    def _group_forward(self, number: int, rows: Float32Array) -> Float32Array:
        kept, draws = self._groups[number], self._weights.draws[number * ROWS : (number + 1) * ROWS]
        output, *changed = self._graph(self._weights.theta, draws, self._member.inputs(rows), *kept)
        tree_map(lambda old, new: old.copy_(new), kept, changed)
        array: Float32Array = output.numpy()
        return array


def _own(part: Part, shared: Tensor, draws: Tensor, summed: tuple[bool, bool]) -> Matrix | Tensor:
    """Return a lane's parameter, from the shared one and the lane's draws, `(num_draws,)`."""
    if part.rank:
        return Matrix(shared, part.factors(draws), summed)
    own = part.dense(draws).view(shared.shape)
    return Matrix(own, None, summed) if own.dim() == 2 else own


@functools.cache
def _depends(inputs: int, outputs: int) -> bool:
    """Return whether the bits of a row of `x @ weight` depend on its place, or on the other rows."""
    return not independent((outputs, inputs), lambda x, weight: x @ weight.t().contiguous().t())
