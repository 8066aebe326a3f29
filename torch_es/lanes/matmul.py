"""Lanes for a chain of linear layers and activations: stacked matrix-vector products in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.lanes.chain import Kernel, activation, chain
from torch_es.nn.observation_norm import Statistics
from torch_es.search.parameters import FlatParameters
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array


class MatmulLanes:
    """A `Sequential` of linear layers and activations as stacked matrix-vector products."""

    def __init__(
        self,
        network: nn.Module,
        num_lanes: int,
        layout: Layout,
        reference: Float32Array | None = None,
    ) -> None:
        parameters = FlatParameters(network)
        if any(p.dtype != torch.float32 for p in network.parameters()):
            raise NotImplementedError("only float32 chains are stacked")
        flat = torch.zeros(num_lanes, parameters.dim, device="cpu")
        names = {id(p): name for name, p in parameters.named.items()}
        views = parameters.views(flat)

        def stacked(p: Tensor) -> Float32Array:
            view = views[names[id(p)]] if id(p) in names else p.detach().expand(num_lanes, *p.shape)
            array: Float32Array = view.numpy()
            return array

        self._flat = flat
        self._steps = [  # each a function of columns `(num_lanes, size, 1)`
            _linear(layer, stacked, num_lanes) if type(layer) is nn.Linear else activation(layer)
            for layer in chain(network)
        ]

    def write(self, lane: int, theta: Tensor) -> None:
        """See `Lanes.write`; a chain has no buffers."""
        self._flat[lane] = theta

    def begin(self, reference: Float32Array | None, scale: Statistics | None) -> None:
        """See `Lanes.begin`; nothing in a chain is prepared."""

    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        x = rows[:, :, None]
        for step in self._steps:
            x = step(x)
        return x[:, :, 0].copy()  # an environment may keep what a head makes of it


def _linear(layer: nn.Linear, stacked: Callable[[Tensor], Float32Array], num_lanes: int) -> Kernel:
    """Return the layer as a function that reuses one buffer for its results."""
    weight = stacked(layer.weight)
    bias = None if layer.bias is None else stacked(layer.bias)[:, :, None]
    out = np.empty((num_lanes, layer.out_features, 1), np.float32)

    def linear(x: Float32Array) -> Float32Array:
        np.matmul(weight, x, out=out)
        return out if bias is None else np.add(out, bias, out=out)

    return linear
