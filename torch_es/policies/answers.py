"""What a network may answer, and what to say of anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def check_answer(answer: Any, size: int, recurrent: bool) -> None:
    """Check what a network answered to a batch of one.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If the tensor has another shape.
    """
    if recurrent:
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise TypeError(
                f"`policy` has an `initial_state`, so it must answer (output, next state), got {_told(answer)}."
            )
    else:
        answer = (answer, ())
    output = answer[0]
    if not isinstance(output, Tensor):
        hint = ""
        if isinstance(output, tuple):
            hint = "; return the output that means the action alone, and give a recurrent network an `initial_state`"
        raise TypeError(f"`policy` must answer a tensor (batch, {size}), got {_told(output)}{hint}.")
    if tuple(output.shape) != (1, size):
        raise ValueError(
            f"`policy` must answer (batch, {size}) to fit the action space, "
            f"got {tuple(output.shape)} for a batch of one."
        )


def _told(answer: Any) -> str:
    """Say what an answer is that is no tensor."""
    if isinstance(answer, Mapping):
        return f"a {type(answer).__name__} with {', '.join(map(repr, answer))}"
    if isinstance(answer, (tuple, list)):
        return f"a {type(answer).__name__} of {', '.join(type(part).__name__ for part in answer)}"
    return "None" if answer is None else f"a {type(answer).__name__}"
