"""What every head is, and what it works on."""

from __future__ import annotations

from typing import Any, Protocol

Output = Any  # numpy array or torch tensor, (..., size)


class Head(Protocol):
    """Turns outputs `(..., size)` into actions: the same code for arrays and tensors."""

    size: int

    def __call__(self, output: Output) -> Any:
        """Return actions."""
        ...
