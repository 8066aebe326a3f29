"""Lanes: one slot for each perturbed copy of a network, all answering in one batched call.

A chain of linear layers and activations runs as stacked matrix-vector products in NumPy (16 lanes of 17-64-64-6: 30 us,
where 16 calls of the module take 500). Any other module is traced through `vmap(functional_call)`. What cannot be
traced (control flow that depends on data, NumPy inside), or is too large to be batched, runs as one copy of the module
for each lane; a large network on pictures as NumPy products, its virtual batch norms folded away. The way is found by
trying it against the plain call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.parameters import FlatParameters
from torch_es.policies.chain import Kernel, activation, chain
from torch_es.policies.folded_lanes import FoldedLanes
from torch_es.policies.module_lanes import CopiedLanes, TracedLanes
from torch_es.policies.observations import Layout
from torch_es.types import Float32Array

_CACHE_BYTES = 5 * 2**19  # weights of all lanes; beyond it workers wait for memory that they share
_MAX_LANES = 16


class Lanes(Protocol):
    """Slots for weights, and their batched forward."""

    def write(self, lane: int, theta: Tensor) -> None:
        """Give the lane the weights `theta`, `(dim,)`, fresh buffers and an episode's initial state."""
        ...

    def refer(self, reference: Float32Array) -> None:
        """Take rows `(batch, size)` as the reference batch of virtual batch norm; lanes written later measure it."""
        ...

    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """Return outputs `(num_lanes, size)` for observations as rows; only active lanes' rows count."""
        ...


def default_num_lanes(dim: int) -> int:
    """Return how many lanes of `dim` parameters stay in cache, from 1 to 16.

    Example:
        >>> default_num_lanes(5_702), default_num_lanes(159_505)
        (16, 4)
    """
    return max(1, min(_MAX_LANES, _CACHE_BYTES // (4 * dim)))


class MatmulLanes:
    """A `Sequential` of linear layers and activations as stacked matrix-vector products."""

    def __init__(self, network: nn.Module, num_lanes: int) -> None:
        parameters = FlatParameters(network)
        if any(p.dtype != torch.float32 for p in network.parameters()):
            raise NotImplementedError("only float32 chains are stacked")
        flat = torch.zeros(num_lanes, parameters.dim)
        names = {id(p): name for name, p in parameters.named.items()}
        views = parameters.views(flat)

        def stacked(p: Tensor) -> Float32Array:
            view = views[names[id(p)]] if id(p) in names else p.detach().expand(num_lanes, *p.shape)
            array: Float32Array = view.numpy()
            return array

        self._flat = flat
        self._steps = [_kernel(layer, stacked, num_lanes) for layer in chain(network)]

    def write(self, lane: int, theta: Tensor) -> None:
        """See `Lanes.write`; a chain has no buffers."""
        self._flat[lane] = theta

    def refer(self, reference: Float32Array) -> None:
        """A chain has no virtual batch norm."""

    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        x = rows[:, :, None]
        for step in self._steps:
            x = step(x)
        return x[:, :, 0]


def _kernel(layer: nn.Module, stacked: Callable[[Tensor], Float32Array], num_lanes: int) -> Kernel:
    """Return the layer's batched form on columns `(num_lanes, size, 1)`; results go to buffers kept for it."""
    return _linear(layer, stacked, num_lanes) if type(layer) is nn.Linear else activation(layer)


def _linear(layer: nn.Linear, stacked: Callable[[Tensor], Float32Array], num_lanes: int) -> Kernel:
    weight = stacked(layer.weight)
    bias = None if layer.bias is None else stacked(layer.bias)[:, :, None]
    out = np.empty((num_lanes, layer.out_features, 1), np.float32)

    def linear(x: Float32Array) -> Float32Array:
        np.matmul(weight, x, out=out)
        return out if bias is None else np.add(out, bias, out=out)

    return linear


@torch.no_grad()
def make_lanes(network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None) -> Lanes:
    """Return the fastest lanes that answer as the plain module does, in eval mode.

    Args:
        network: Answers observations `(batch, ...)` with outputs `(batch, size)`; recurrent or not.
        num_lanes: Slots.
        layout: Of the observations.
        reference: Rows `(batch, size)` for virtual batch norm, where the network has any.

    Example:
        >>> from gymnasium.spaces import Box
        >>> layout = Layout(Box(-1, 1, (3,)))
        >>> type(make_lanes(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), 4, layout)).__name__
        'MatmulLanes'
    """
    network = copy.deepcopy(network).eval()
    theta = FlatParameters(network).gather()
    candidates: list[Callable[[], Lanes]] = [lambda: MatmulLanes(network, num_lanes)]
    # a network too large to be batched answers faster as it is, or with what can be folded
    larger = TracedLanes if default_num_lanes(len(theta)) > 1 else FoldedLanes
    candidates.append(lambda: larger(network, num_lanes, layout, reference))
    plain = CopiedLanes(network, num_lanes, layout, reference)
    for candidate in candidates:
        try:
            lanes = candidate()
            if _answers_as(plain, lanes, theta, num_lanes, layout.size):
                return lanes
        except Exception:  # noqa: BLE001, S112 - whatever a foreign module raises when traced, copies still work
            continue
    return plain


def _answers_as(plain: Lanes, lanes: Lanes, theta: Tensor, num_lanes: int, size: int) -> bool:
    """Whether both answer alike for perturbed weights, twice in a row so that state would show."""
    generator = np.random.default_rng(0)
    for lane in range(num_lanes):
        noise = torch.from_numpy(generator.standard_normal(len(theta), dtype=np.float32))
        for each in (plain, lanes):
            each.write(lane, theta + 0.1 * noise)
    for _ in range(2):
        rows = 2 * generator.standard_normal((num_lanes, size), dtype=np.float32)
        expected = plain.forward(rows, range(num_lanes)).copy()
        if not np.allclose(lanes.forward(rows, range(num_lanes)), expected, rtol=1e-3, atol=1e-4, equal_nan=True):
            return False
    return True
