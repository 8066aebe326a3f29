"""Lanes for networks on pictures, with virtual batch norm folded into the layers when a member starts.

The statistics of virtual batch norm follow from a member's weights. They stay the same for a whole episode, so each
normalisation becomes part of the product before it. Pictures lie channels last. The first convolution, over few
channels, is torch's. A later one is a product over copied patches, for which NumPy's BLAS takes less time than torch
takes to arrange its operands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from torch_es.lanes.chain import Kernel, activation, chain
from torch_es.lanes.modules import Member
from torch_es.nn import VirtualBatchNorm
from torch_es.nn.observation_norm import Statistics
from torch_es.policies.networks import Scale
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array


class FoldedLanes:
    """A `Sequential` of convolutions, virtual batch norms, linear layers and activations, with one product a layer.

    Raises:
        NotImplementedError: If the network is of another kind.
    """

    def __init__(
        self, network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None
    ) -> None:
        if not isinstance(layout.space, gym.spaces.Box) or len(layout.space.shape) != 3:
            raise NotImplementedError("only networks on pictures are folded")
        if any(p.dtype != torch.float32 for p in network.parameters()):
            raise NotImplementedError("only float32 networks are folded")
        self._shape = layout.space.shape
        self._members = [Member(network, layout) for _ in range(num_lanes)]
        self._kernels: list[list[Kernel]] = [[]] * num_lanes
        self._outputs: Float32Array | None = None
        self.begin(reference, None)

    def begin(self, reference: Float32Array | None, scale: Statistics | None) -> None:
        """See `Lanes.begin`."""
        for member in self._members:
            member.begin(reference, scale)

    @torch.no_grad()
    def write(self, lane: int, theta: Tensor) -> None:
        """See `Lanes.write`."""
        member = self._members[lane]
        member.start(theta)
        self._kernels[lane] = _kernels(chain(member.network), np.zeros(self._shape, np.float32))

    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        for lane in active:
            x = rows[lane].reshape(self._shape)
            for kernel in self._kernels[lane]:
                x = kernel(x)
            if self._outputs is None:
                self._outputs = np.zeros((len(rows), len(x)), np.float32)
            self._outputs[lane] = x
        assert self._outputs is not None
        return self._outputs


def _kernels(layers: Sequence[nn.Module], picture: Float32Array) -> list[Kernel]:
    """Return the layers, with their present weights, as functions of pictures that have the shape of `picture`."""
    kernels: list[Kernel] = []
    remaining, x, factor, convolved = deque(layers), picture, 1.0, False
    while remaining:
        layer = remaining.popleft()
        if type(layer) is Scale:
            factor *= layer.factor
            continue
        if type(layer) is nn.Conv2d or type(layer) is nn.Linear:
            norm = remaining.popleft() if remaining and type(remaining[0]) is VirtualBatchNorm else None
            weight, bias = _folded(layer, factor, norm)
            if isinstance(layer, nn.Linear):
                kernel = _linear(weight, bias, x)
            else:
                kernel = _later_convolution(layer, weight, bias, x) if convolved else _convolution(layer, weight, bias)
                convolved = True
            factor = 1.0
        elif factor != 1:
            raise NotImplementedError("only what goes into a product is scaled")
        elif type(layer) is nn.Flatten:
            kernel = _flat_channels_last if convolved else np.ravel
        else:
            kernel = activation(layer)
        kernels.append(kernel)
        x = kernel(x)
    return kernels


def _folded(layer: Any, factor: float, norm: Any) -> tuple[Tensor, Tensor]:
    """Return weight and bias that include the scaling of the inputs before them and the normalisation after them."""
    weight = layer.weight * factor
    bias = torch.zeros(len(weight), device="cpu") if layer.bias is None else layer.bias
    if norm is None:
        return weight, bias
    if norm.form != "2017":
        raise NotImplementedError("the form of 2016 depends on the observation")
    return fuse_conv_bn_weights(weight, bias, norm.mean, norm.variance, norm.eps, norm.weight, norm.bias)


def _linear(weight: Tensor, bias: Tensor, x: Float32Array) -> Kernel:
    if x.ndim != 1:
        raise NotImplementedError("linear layers come after Flatten")
    own_weight, own_bias, out = weight.numpy(), bias.numpy(), np.empty(len(bias), np.float32)
    return lambda x: np.add(np.matmul(own_weight, x, out=out), own_bias, out=out)


def _convolution(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> Kernel:
    """Return the first convolution: from channels first to channels last."""

    def convolution(x: Float32Array) -> Float32Array:
        output = layer._conv_forward(torch.from_numpy(x)[None], weight, bias)
        array: Float32Array = np.ascontiguousarray(output[0].numpy().transpose(1, 2, 0))
        return array

    return convolution


def _later_convolution(layer: nn.Conv2d, weight: Tensor, bias: Tensor, x: Float32Array) -> Kernel:
    """Return a later convolution, as one product over patches; channels last."""
    if (layer.padding, layer.dilation, layer.groups) != ((0, 0), (1, 1), 1):
        raise NotImplementedError("only plain convolutions are products over patches")
    source = np.empty_like(x)
    windows = sliding_window_view(source, layer.kernel_size, (0, 1))  # (height, width, channels, *kernel_size)
    windows = windows[:: layer.stride[0], :: layer.stride[1]].transpose(0, 1, 3, 4, 2)
    patches = np.empty(windows.shape, np.float32)
    rows = patches.reshape(-1, weight[0].numel())
    matrix = np.ascontiguousarray(weight.permute(2, 3, 1, 0).reshape(rows.shape[1], -1).numpy())
    own_bias, out = bias.numpy(), np.empty((len(rows), len(bias)), np.float32)

    def convolution(x: Float32Array) -> Float32Array:
        np.copyto(source, x)
        np.copyto(patches, windows)
        np.add(np.matmul(rows, matrix, out=out), own_bias, out=out)
        return out.reshape(*patches.shape[:2], -1)

    return convolution


def _flat_channels_last(x: Float32Array) -> Float32Array:
    """Return the elements in torch's order."""
    return x.transpose(2, 0, 1).reshape(-1)
