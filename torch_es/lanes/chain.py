"""Networks that are a chain of layers, and their activations in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from torch_es.nn import Sign, Step
from torch_es.types import Float32Array

Kernel = Callable[[Float32Array], Float32Array]

_ACTIVATIONS: dict[type[nn.Module], Kernel] = {
    nn.Tanh: np.tanh,
    nn.ReLU: lambda x: np.maximum(x, np.float32(0)),
    Step: lambda x: (x >= 0).astype(np.float32),
    Sign: lambda x: np.where(x >= 0, np.float32(1), np.float32(-1)),
    nn.Identity: lambda x: x,
}


def chain(module: nn.Module) -> list[nn.Module]:
    """Return the layers of a `Sequential` in order, nested ones included; any other module is a chain of one.

    Raises:
        NotImplementedError: If there is a hook, or a `forward` of an object's own, which arrays would not go through.

    Example:
        >>> chain(nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.Tanh())))
        [Linear(in_features=3, out_features=2, bias=True), Tanh()]
    """
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise NotImplementedError(f"{type(module).__name__} has a hook")
    if type(module) is nn.Sequential:
        return [leaf for child in module for leaf in chain(child)]
    return [module]


def activation(layer: nn.Module) -> Kernel:
    """Return an activation as a function of arrays.

    Raises:
        NotImplementedError: If the layer is not one of those known here.

    Example:
        >>> activation(nn.ReLU())(np.float32([-1, 2])).tolist()
        [0.0, 2.0]
    """
    if type(layer) not in _ACTIVATIONS:
        raise NotImplementedError(f"{type(layer).__name__} has no form on arrays")
    return _ACTIVATIONS[type(layer)]
