"""Networks for those who do not bring their own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from torch_es.checks import check_choice, check_count

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}


def mlp(
    inputs: int,
    outputs: int,
    hidden: Sequence[int] = (64, 64),
    activation: str = "tanh",
    output_scale: float = 0.01,
    seed: int = 0,
) -> nn.Sequential:
    """A multilayer perceptron, initialised as in Salimans et al. 2017's released code.

    Weights are Gaussian, each unit's incoming vector scaled to length 1 (`output_scale` in the last layer); biases
    are zero. A small last layer starts every run from near-zero actions.

    Args:
        inputs: Elements of an observation.
        outputs: Elements of the output.
        hidden: Units of the hidden layers; empty gives a linear policy.
        activation: One of tanh, relu, elu, silu.
        output_scale: Length of the last layer's incoming vectors.
        seed: Of the weights; torch's global state is not touched.

    Example:
        >>> [tuple(p.shape) for p in mlp(3, 2, hidden=(8,)).parameters()]
        [(8, 3), (8,), (2, 8), (2,)]
    """
    layer_type = ACTIVATIONS[check_choice("activation", activation, ACTIVATIONS)]
    sizes = [
        check_count("inputs", inputs),
        *(check_count("hidden", h) for h in hidden),
        check_count("outputs", outputs),
    ]
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        linear = nn.Linear(fan_in, fan_out, device="meta").to_empty(device="cpu")  # skips torch's own random init
        with torch.no_grad():
            weight = torch.empty(fan_out, fan_in).normal_(generator=generator)
            linear.weight.copy_(weight / weight.norm(dim=1, keepdim=True) * (output_scale if last else 1.0))
            linear.bias.zero_()
        layers += [linear] if last else [linear, layer_type()]
    return nn.Sequential(*layers)
