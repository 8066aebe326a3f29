"""A layer whose weights change while it is used; ES evolves how (Najarro & Risi 2020, arXiv:2007.02686)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_es.checks import check_count


class HebbianLinear(nn.Module):
    """A linear layer with tanh whose weights start each episode at zero and learn from what passes through them.

    After each step, the weight from input i to output o changes by `rate * (A * x_i * y_o + B * x_i + C * y_o + D)`.
    Each weight has its own rate, A, B, C and D; these are the layer's parameters. If the largest weight exceeds 1, all
    are scaled down. The weights are the layer's state, so the layer is recurrent. One layer can be a policy; a module
    with several layers gives each its part of the state.

    Args:
        inputs: Elements of the input.
        outputs: Elements of the output.

    Example:
        >>> layer = HebbianLinear(3, 2)
        >>> output, weight = layer(torch.ones(1, 3), layer.initial_state(1))
        >>> output, weight.shape
        (tensor([[0., 0.]]), torch.Size([1, 2, 3]))
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        shape = check_count("outputs", outputs), check_count("inputs", inputs)
        self.rule = nn.Parameter(torch.randn(4, *shape))  # A, B, C, D
        self.rate = nn.Parameter(0.1 * torch.randn(shape))

    def initial_state(self, batch_size: int) -> Tensor:
        """Return weights of zero, `(batch_size, outputs, inputs)`."""
        return self.rate.new_zeros(batch_size, *self.rate.shape)

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, inputs)` to outputs `(batch, outputs)`, and the weights to the next step's."""
        y = torch.tanh((weight @ x[..., None])[..., 0])
        before, after = x[..., None, :], y[..., None]
        a, b, c, d = self.rule
        weight = weight + self.rate * (a * before * after + b * before + c * after + d)
        return y, weight / weight.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=1)
