"""Lanes: one slot for each perturbed copy of a network, all answering in one batched call.

Three ways, fastest first. A chain of linear layers and activations runs as stacked matrix-vector products in NumPy
(16 lanes of 17-64-64-6: 30 us, where 16 calls of the module take 500). Any other module is traced through
`vmap(functional_call)`. What cannot be traced (control flow that depends on data, NumPy inside) runs as one copy of the
module for each lane. The way is found by trying it against the plain call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from torch_es.parameters import FlatParameters
from torch_es.types import Float32Array

_CACHE_BYTES = 5 * 2**19  # weights of all lanes; beyond it workers wait for memory that they share
_MAX_LANES = 16


class Lanes(Protocol):
    """Slots for weights, and their batched forward."""

    def write(self, lane: int, theta: Tensor) -> None:
        """Give the lane the weights `theta`, `(dim,)`, and fresh buffers."""
        ...

    def forward(self, observations: Float32Array, active: Sequence[int]) -> Float32Array:
        """Return outputs `(num_lanes, size)` for observations `(num_lanes, *shape)`; only active lanes' rows count."""
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
        self._steps = [_kernel(layer, stacked, num_lanes) for layer in _chain(network)]

    def write(self, lane: int, theta: Tensor) -> None:
        """See `Lanes.write`; a chain has no buffers."""
        self._flat[lane] = theta

    def forward(self, observations: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        x = observations.reshape(len(observations), -1, 1)
        for step in self._steps:
            x = step(x)
        return x[:, :, 0]


_Step = Callable[[Float32Array], Float32Array]


def _chain(module: nn.Module) -> list[nn.Module]:
    if type(module) is nn.Sequential:
        return [leaf for child in module for leaf in _chain(child)]
    return [module]


def _kernel(layer: nn.Module, stacked: Callable[[Tensor], Float32Array], num_lanes: int) -> _Step:
    """Return the layer's batched form on columns `(num_lanes, size, 1)`; results go to buffers kept for it."""
    if type(layer) is nn.Linear:
        return _linear(layer, stacked, num_lanes)
    kind = type(layer)
    if kind is nn.Tanh:
        return np.tanh
    if kind is nn.ReLU:
        return lambda x: np.maximum(x, np.float32(0))
    if kind is nn.Identity:
        return lambda x: x
    raise NotImplementedError(f"{kind.__name__} has no stacked form")


def _linear(layer: nn.Linear, stacked: Callable[[Tensor], Float32Array], num_lanes: int) -> _Step:
    weight = stacked(layer.weight)
    bias = None if layer.bias is None else stacked(layer.bias)[:, :, None]
    out = np.empty((num_lanes, layer.out_features, 1), np.float32)

    def linear(x: Float32Array) -> Float32Array:
        np.matmul(weight, x, out=out)
        return out if bias is None else np.add(out, bias, out=out)

    return linear


class TracedLanes:
    """Any module that `vmap` takes, traced once into a flat graph of batched operations."""

    def __init__(self, network: nn.Module, num_lanes: int, observation_shape: tuple[int, ...]) -> None:
        self._parameters = FlatParameters(network)
        frozen = {n: p.detach() for n, p in network.named_parameters() if not p.requires_grad}
        self._initial = {n: b.detach().clone() for n, b in network.named_buffers()}
        self._flat = torch.zeros(num_lanes, self._parameters.dim, dtype=self._parameters.dtype)
        self._views = self._parameters.views(self._flat)
        # parameters of another precision than the flat vector's are copies, refreshed when a lane is written
        self._stacked = {n: v.to(p.dtype) for (n, v), p in zip(self._views.items(), self._named(), strict=True)}
        self._buffers = {n: b.expand(num_lanes, *b.shape).clone() for n, b in self._initial.items()}
        self._dtype = next(network.parameters()).dtype

        def call(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
        ) -> tuple[Tensor, dict[str, Tensor]]:
            state = {**parameters, **frozen, **buffers}
            output = functional_call(network, state, (x[None],))[0]
            return output, {n: state[n] for n in buffers}

        x = torch.zeros(num_lanes, *observation_shape, dtype=self._dtype)
        self._graph = make_fx(vmap(call))(self._stacked, self._buffers, x)

    def _named(self) -> list[nn.Parameter]:
        return list(self._parameters.named.values())

    def write(self, lane: int, theta: Tensor) -> None:
        """See `Lanes.write`."""
        self._flat[lane] = theta
        for name, view in self._views.items():
            if self._stacked[name].data_ptr() != view.data_ptr():
                self._stacked[name][lane] = view[lane]
        for name, initial in self._initial.items():
            self._buffers[name][lane] = initial

    def forward(self, observations: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        x = torch.from_numpy(observations).to(self._dtype)
        output, buffers = self._graph(self._stacked, self._buffers, x)
        for name, value in buffers.items():
            self._buffers[name].copy_(value)
        array: Float32Array = output.float().numpy()
        return array


class CopiedLanes:
    """One copy of the module for each lane: slow, and right for every module."""

    def __init__(self, network: nn.Module, num_lanes: int) -> None:
        self._copies = [copy.deepcopy(network) for _ in range(num_lanes)]
        self._parameters = [FlatParameters(module) for module in self._copies]
        self._initial = {n: b.detach().clone() for n, b in network.named_buffers()}
        self._dtype = next(network.parameters()).dtype

    def write(self, lane: int, theta: Tensor) -> None:
        """See `Lanes.write`."""
        self._parameters[lane].write(theta)
        for name, buffer in self._copies[lane].named_buffers():
            buffer.copy_(self._initial[name])

    def forward(self, observations: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        x = torch.from_numpy(observations).to(self._dtype)
        rows = {lane: self._copies[lane](x[lane][None])[0] for lane in active}
        output = torch.zeros(len(observations), next(iter(rows.values())).numel())
        for lane, row in rows.items():
            output[lane] = row
        array: Float32Array = output.numpy()
        return array


@torch.no_grad()
def make_lanes(network: nn.Module, num_lanes: int, observation_shape: tuple[int, ...]) -> Lanes:
    """Return the fastest lanes that answer as the plain module does, in eval mode.

    Example:
        >>> type(make_lanes(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), 4, (3,))).__name__
        'MatmulLanes'
    """
    network = copy.deepcopy(network).eval()
    candidates: list[Callable[[], Lanes]] = [
        lambda: MatmulLanes(network, num_lanes),
        lambda: TracedLanes(network, num_lanes, observation_shape),
    ]
    for candidate in candidates:
        try:
            lanes = candidate()
            if _answers_as(CopiedLanes(network, num_lanes), lanes, network, num_lanes, observation_shape):
                return lanes
        except Exception:  # noqa: BLE001, S112 - whatever a foreign module raises when traced, copies still work
            continue
    return CopiedLanes(network, num_lanes)


def _answers_as(
    reference: Lanes, lanes: Lanes, network: nn.Module, num_lanes: int, observation_shape: tuple[int, ...]
) -> bool:
    """Whether both answer alike for perturbed weights, twice in a row so that state would show."""
    generator = np.random.default_rng(0)
    theta = FlatParameters(network).gather()
    for lane in range(num_lanes):
        noise = torch.from_numpy(generator.standard_normal(len(theta), dtype=np.float32))
        for each in (reference, lanes):
            each.write(lane, theta + 0.1 * noise)
    for _ in range(2):
        x = 2 * generator.standard_normal((num_lanes, *observation_shape), dtype=np.float32)
        expected = reference.forward(x, range(num_lanes)).copy()
        if not np.allclose(lanes.forward(x, range(num_lanes)), expected, rtol=1e-3, atol=1e-4, equal_nan=True):
            return False
    return True
