"""A policy as one file that runs without torch_es: `torch.export` (.pt2) for PyTorch, ONNX for anything else.

The file goes from observation to action: it contains one-hot coding, normalisation, virtual batch norm's statistics,
the network and its head. A recurrent policy has two more inputs, the state that the last call returned and
`episode_start`, which resets the state, and it returns the next state.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from torch_es.checks import check_choice
from torch_es.policies.onnx_file import first_line, onnx_model, quiet, runner
from torch_es.policies.recurrent import State

if TYPE_CHECKING:  # the policy's own module calls this one
    from torch_es.policies.policy import Policy

FORMATS = ("onnx", "pt2")
_SAMPLES = 5  # observations on which the exported policy must act as the policy does
_SEED = 0
_GIANT = 1e9  # an observation beyond it is none that a network acts on


def export(policy: Policy, path: str | Path, form: str | None = None) -> Path:
    """Write a policy as a file that acts without torch_es, after checking that it acts as the policy does.

    The batch may have any size. Inputs have the dtypes of the observation space. In ONNX they are named `observation`
    (`observation.KEY` for the parts of a Dict or Tuple), `state` and `episode_start`, and the outputs `action` and
    `next_state`.

    Args:
        policy: A `Policy`; it is not changed. Noise on actions is left out, as in evaluation.
        path: The file.
        form: "onnx" or "pt2"; by default the ending of `path`.

    Raises:
        ValueError: If the network cannot be exported: torch.export cannot follow control flow that depends on data, or
            code outside torch, and ONNX Runtime cannot run every dtype. The error names the place, and nothing is
            written.
        MissingExtraError: If a package that ONNX needs is not installed.

    Example:
        >>> import tempfile
        >>> import gymnasium as gym
        >>> from torch_es.policies import Policy
        >>> policy = Policy(torch.nn.Linear(3, 2), gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2))
        >>> path = policy.export(Path(tempfile.mkdtemp()) / "policy.pt2")
        >>> torch.export.load(path).module()(torch.zeros(7, 3)).shape
        torch.Size([7])
    """
    path = Path(path)
    form = check_choice("form", form if form is not None else path.suffix[1:], FORMATS)
    policy = copy.deepcopy(policy).eval().requires_grad_(False)
    calls = _played(policy)  # after this it is prepared: virtual batch norm has its statistics
    policy.prepare = lambda: None  # type: ignore[method-assign] # torch cannot export the question whether it still is
    arguments, answer = calls[-1]
    program, precision = _traced(policy, arguments), _precision(policy)
    _check(program.module(), calls, precision)
    model = onnx_model(program, arguments, answer) if form == "onnx" else None
    if model is not None:
        _check(runner(model, answer), calls, precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    if model is None:
        torch.export.save(program, path)
    else:
        model.save(path, external_data=False)
    return path


Call = tuple[tuple[Any, ...], Any]  # arguments for the exported policy, and what it must return for them


def _played(policy: Policy) -> list[Call]:
    """Let the policy itself act in two steps of several episodes, and return its calls."""
    space = copy.deepcopy(policy.layout.space)
    space.seed(_SEED)
    states: Sequence[State] = [None] * _SAMPLES
    calls: list[Call] = []
    for number in range(2):
        observations, before = [tree_map(_moderate, space.sample()) for _ in range(_SAMPLES)], states
        actions, states = zip(*map(policy.act, observations, before), strict=True)
        given, action = _batched(observations), _batched(actions)
        if not tree_leaves(states):  # not recurrent
            calls.append(((given,), action))
            continue
        after, start = _together(states), torch.full((_SAMPLES,), number == 0)
        # at the start of an episode the given state is ignored, whatever it is
        held = _together(before) if number else tree_map(torch.ones_like, after)
        calls.append(((given, held, start), (action, after)))
    return calls


def _moderate(leaf: Any) -> Any:
    """Return a leaf of an observation without the giants of a space whose bounds say no more than that it is finite."""
    if not np.issubdtype(getattr(leaf, "dtype", int), np.floating):
        return leaf
    return np.where(np.abs(leaf.astype(np.float64)) > _GIANT, np.sign(leaf), leaf)


def _batched(values: Sequence[Any]) -> Any:
    """Return observations or actions of one space as tensors with a batch in front."""
    columns = zip(*(tree_leaves(value) for value in values), strict=True)
    stacked = [torch.from_numpy(np.stack([np.asarray(leaf) for leaf in column])) for column in columns]
    return tree_unflatten(stacked, tree_flatten(values[0])[1])


def _together(states: Sequence[State]) -> State:
    return tree_map(lambda *rows: torch.cat(rows), *states)


def _traced(policy: Policy, arguments: tuple[Any, ...]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    try:
        with quiet():
            shapes = tree_map(lambda _: {0: batch}, arguments)
            return torch.export.export(policy, arguments, dynamic_shapes=shapes, strict=False)  # as from torch 2.7 on
    except Exception as error:  # whatever the network's own code raises when it is traced
        fixed = "its forward fixes the size of the batch (write x.shape[0], not len(x))"
        reason = fixed if "(batch)" in str(error) else f"torch.export says: {first_line(error)}"
        raise ValueError(f"`policy` cannot be exported, {reason}.") from error


def _precision(policy: Policy) -> float:
    """Return the rounding of the coarsest parameter."""
    kinds = {parameter.dtype for parameter in policy.parameters() if parameter.is_floating_point()}
    return max((torch.finfo(kind).eps for kind in kinds), default=0.0)


def _check(run: Callable[..., Any], calls: list[Call], precision: float) -> None:
    relative, absolute = max(1e-4, 16 * precision), max(1e-5, 4 * precision)
    for arguments, answer in calls:
        for own, right in zip(tree_leaves(run(*arguments)), tree_leaves(answer), strict=True):
            if not torch.allclose(own.to(right.dtype), right, rtol=relative, atol=absolute):
                raise ValueError(
                    "`policy` cannot be exported: the exported program's actions differ from the policy's by up to "
                    f"{float((own.double() - right.double()).abs().max()):.3g}. If its forward draws random numbers or "
                    "runs code outside torch, the export holds one recorded result of that."
                )
