"""What a network may answer, and what to say of anything else."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from torch_es.checks import described


def check_answer(answer: Any, size: int, recurrent: bool) -> None:
    """Check what a network answered to a batch of one.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If the tensor has another shape.
    """
    if recurrent and not (isinstance(answer, tuple) and len(answer) == 2):
        raise TypeError(
            f"`policy` has an `initial_state`, so it must answer (output, next state), got {described(answer)}."
        )
    output = answer[0] if recurrent else answer
    if not isinstance(output, Tensor):
        hint = ""
        if isinstance(output, tuple):
            hint = "; return the output that means the action alone, and give a recurrent network an `initial_state`"
        raise TypeError(f"`policy` must answer a tensor (batch, {size}), got {described(output)}{hint}.")
    if tuple(output.shape) != (1, size):
        raise ValueError(
            f"`policy` must answer (batch, {size}) to fit the action space, "
            f"got {tuple(output.shape)} for a batch of one."
        )


def check_state(state: Any, batch: int) -> None:
    """Check what a network's `initial_state` returned for so many episodes.

    Raises:
        TypeError: If it is made of anything but tensors, as None is.
        ValueError: If a tensor does not have an entry for each episode.
    """
    for leaf in tree_leaves(state):
        if not isinstance(leaf, Tensor):
            raise TypeError(f"`policy.initial_state` must return tensors, in any tree, got {described(leaf)}.")
        if leaf.shape[:1] != (batch,):
            raise ValueError(
                f"`policy.initial_state({batch})` must return tensors ({batch}, ...), batch first, got shape "
                f"{tuple(leaf.shape)}; transpose the state of a PyTorch layer in `forward`."
            )


def refusal(network: nn.Module, space: gym.Space[Any], error: Exception) -> str:
    """Say that a network raised an error when it was called with a batch of observations of a space."""
    box = isinstance(space, gym.spaces.Box)
    tree = isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple))
    hint = "" if not tree else " `torch_es.policies.Concatenate()`, first in it, makes one tensor of them."
    if hasattr(network, "get_action_and_value"):
        hint = " An agent of CleanRL is given as `torch_es.adapters.from_cleanrl(agent)`."
    what = f"shape {space.shape}" if box else f"{space}"
    raised = f"{type(error).__name__}: {error}".rstrip(".")
    return f"`policy` must take a batch of observations of {what}; it raised {raised}.{hint}"
