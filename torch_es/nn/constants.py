"""Tensors that a module computes with and that training never changes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Constants(nn.Module):
    """A module whose buffers follow it to another device and keep their dtype.

    `policy.half()` changes the network's arithmetic. The bounds of an action, or a mean over a million observations,
    must not lose digits by it.

    Example:
        >>> import torch
        >>> module = Constants()
        >>> module.register_buffer("bound", torch.tensor(0.4))
        >>> module.half().bound
        tensor(0.4000)
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def moved(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            return made if made.dtype == tensor.dtype else tensor.to(made.device)

        return super()._apply(moved, recurse)  # type: ignore[no-untyped-call, no-any-return]
