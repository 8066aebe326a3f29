"""Activations and weights that take only a few values: their gradient is zero almost everywhere.

ES uses them directly, without the surrogate gradients that backpropagation needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

Quantizer = Callable[[torch.Tensor], torch.Tensor]


def binarize(x: torch.Tensor) -> torch.Tensor:
    """Return 1 where `x >= 0`, otherwise -1: weights and activations of Courbariaux et al. 2016 (arXiv:1602.02830).

    Unlike `torch.sign`, it has no third value for 0.

    Example:
        >>> binarize(torch.tensor([-0.5, 0.0, 2.0]))
        tensor([-1.,  1.,  1.])
    """
    return 2 * (x >= 0).to(x.dtype) - 1


def ternarize(weight: torch.Tensor) -> torch.Tensor:
    """Return `scale * {-1, 0, 1}`: ternary weights of Li & Liu 2016 (arXiv:1605.04711v2).

    Weights up to 0.7 times the mean magnitude of the tensor become 0; `scale` is the mean magnitude of the others.

    Example:
        >>> ternarize(torch.tensor([[0.1, -1.0], [2.0, -0.2]]))
        tensor([[ 0.0000, -1.5000],
                [ 1.5000,  0.0000]])
    """
    threshold = 0.7 * weight.abs().mean()
    signs = (weight > threshold).to(weight.dtype) - (weight < -threshold).to(weight.dtype)
    wide = torch.promote_types(weight.dtype, torch.float32)  # float16 cannot count beyond 65,504
    kept = signs.abs().sum(dtype=wide).clamp(min=1)  # of a tensor of zeros, no weight is kept
    return ((weight * signs).sum(dtype=wide) / kept).to(weight.dtype) * signs


class Step(nn.Module):
    """Neurons that fire or do not, as an activation: the threshold unit of McCulloch & Pitts 1943.

    Example:
        >>> Step()(torch.tensor([-0.5, 0.0, 2.0]))
        tensor([0., 1., 1.])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return for each element 1 if it is at least 0, otherwise 0."""
        return (x >= 0).to(x.dtype)


class Sign(nn.Module):
    """`binarize` as an activation.

    Example:
        >>> Sign()(torch.tensor([[-3.0, 0.0]]))
        tensor([[-1.,  1.]])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return -1 or 1 for each element."""
        return binarize(x)


class QuantizedWeights(nn.Module):
    """Runs a layer, or a whole network, with quantized weights; ES evolves the latent weights behind them.

    Parameters with two or more dimensions are quantized; biases and the scales of norms are not. A latent weight has no
    effect until it crosses a threshold, so its size should be about that of ES's `sigma`.

    Args:
        network: Any module: linear, convolutional, recurrent, or composed of these.
        quantize: `binarize`, `ternarize`, or another function from a weight to one of its shape.

    Example:
        >>> network = QuantizedWeights(nn.Sequential(nn.Linear(4, 8), Sign(), nn.Linear(8, 2, bias=False)), binarize)
        >>> network(torch.ones(1, 4)).abs().max() <= 8
        tensor(True)
    """

    def __init__(self, network: nn.Module, quantize: Quantizer) -> None:
        super().__init__()
        self.network = network
        self.quantize = quantize
        if callable(getattr(network, "initial_state", None)):
            self.initial_state = network.initial_state  # recurrent inside is recurrent outside

    def forward(self, *inputs: Any) -> Any:
        """Return what the network returns, with quantized weights."""
        # not torch.nn.utils.parametrize: its modules cannot be pickled, so no worker process could get them
        weights = {name: self.quantize(p) for name, p in self.network.named_parameters() if p.dim() > 1}
        return functional_call(self.network, weights, inputs)

    def extra_repr(self) -> str:
        """Name the quantizer."""
        return f"quantize={getattr(self.quantize, '__name__', self.quantize)}"
