"""What every head is, and what it works on."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

Output = Any  # numpy array or torch tensor, (..., size)


class Head(Protocol):
    """Turns outputs `(..., size)` into actions: the same code for arrays and tensors."""

    size: int

    def __call__(self, output: Output) -> Any:
        """Return actions."""
        ...


def typed(action: Output, dtype: Any) -> Output:
    """Return an array or a tensor with a space's dtype.

    Example:
        >>> typed(np.array([3]), np.dtype("int8"))
        array([3], dtype=int8)
    """
    if isinstance(action, torch.Tensor):
        return action.to(getattr(torch, np.dtype(dtype).name))
    return action.astype(dtype, copy=False)
