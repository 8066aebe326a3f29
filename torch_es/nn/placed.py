"""The module to evolve, made and put where it answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

MakeModule = Callable[[], nn.Module]


def placed(policy: nn.Module | MakeModule, device: torch.device | str | None = None, acts: bool = False) -> nn.Module:
    """Return a module, or what a function makes, on a device.

    Args:
        policy: The module, which is moved in place; or a function that makes one.
        device: As `torch.device` takes it; None leaves the module where it is.
        acts: Whether it acts in environments, which are played on the CPU.

    Raises:
        TypeError: If `policy` is no module and makes none, or `device` names no device.
        ValueError: If there is no such device, or the module acts and is not on the CPU.

    Example:
        >>> placed(lambda: nn.Linear(2, 1), "cpu")
        Linear(in_features=2, out_features=1, bias=True)
    """
    target = None if device is None else _usable(device, acts)
    if isinstance(policy, type):
        raise TypeError(f"`policy` must be a torch.nn.Module, got the class {policy.__name__}; make one of it.")
    module = policy() if callable(policy) and not isinstance(policy, nn.Module) else policy
    if not isinstance(module, nn.Module):
        made = "got" if module is policy else "or make one, but it made"
        raise TypeError(f"`policy` must be a torch.nn.Module, {made} {type(module).__name__}.")
    for name, p in module.named_parameters() if acts else ():
        if not p.is_cpu:
            raise ValueError(f"`{name}` must be on the CPU, where the workers play, got {p.device}; call `.cpu()`.")
    return module if target is None else module.to(target)


def _usable(device: torch.device | str, acts: bool) -> torch.device:
    if acts and not str(device).startswith("cpu"):
        raise ValueError(
            f"`device` must be cpu or left out with `env`, got {device}: environments are played on the CPU, in "
            "`num_workers` processes."
        )
    if not isinstance(device, str | torch.device | int):
        raise TypeError(f"`device` must be a name such as 'cuda:0', or a torch.device, got {device!r}.")
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (AssertionError, RuntimeError, TypeError) as error:  # torch asserts that it was built for CUDA
        raise ValueError(f"`device` {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error
    if target.type == "meta":
        raise ValueError("`device` must hold values, got 'meta', on which the weights would be lost.")
    return target
