"""The module to evolve, made and put where it answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

MakeModule = Callable[[], nn.Module]


def placed(policy: nn.Module | MakeModule, device: torch.device | str | None = None) -> nn.Module:
    """Return a module, or what a function makes, on a device.

    Args:
        policy: The module, which is moved in place; or a function that makes one.
        device: As `torch.nn.Module.to` takes it; None leaves the module where it is.

    Raises:
        TypeError: If `policy` is no module and makes none.
        ValueError: If there is no such device.

    Example:
        >>> placed(lambda: nn.Linear(2, 1), "cpu")
        Linear(in_features=2, out_features=1, bias=True)
    """
    module = policy() if callable(policy) and not isinstance(policy, nn.Module) else policy
    if not isinstance(module, nn.Module):
        made = "got" if module is policy else "or make one, but it made"
        raise TypeError(f"`policy` must be a torch.nn.Module, {made} {type(module).__name__}.")
    if device is None:
        return module
    try:
        return module.to(device)
    except (AssertionError, RuntimeError) as error:  # torch asserts that it was built for CUDA
        raise ValueError(f"`device` {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error
