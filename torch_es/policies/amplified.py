"""Large outputs for the time of a trial: near zero, where a new actor answers, tanh is as good as the identity."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def amplified(module: nn.Module, run: Callable[[], object], reach: float) -> Iterator[None]:
    """Multiply the last layer of a module, so that its largest output in `run` is at least `reach`; then restore it.

    Args:
        module: Its last layer is the last part with parameters of its own.
        run: Calls the module.
        reach: Outputs that are larger stay as they are.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(layer.weight, 0.01)
        >>> with torch.no_grad(), amplified(layer, lambda: layer(torch.ones(1, 1)), reach=10):
        ...     layer(torch.ones(1, 1))
        tensor([[10.]])
    """
    largest: list[float] = []

    def note(_: nn.Module, __: object, output: Tensor) -> None:
        largest.append(float(output.detach().abs().max()))

    hook = module.register_forward_hook(note)
    try:
        run()
    finally:
        hook.remove()
    layers = [part for part in module.modules() if any(True for _ in part.parameters(recurse=False))]
    parameters = list(layers[-1].parameters(recurse=False)) if layers and max(largest, default=0) > 0 else []
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(max(1, reach / max(largest)))
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
