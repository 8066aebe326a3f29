"""Optimisers of `torch.optim` for a search: which may step along its gradient, and how a step is taken back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_es.search.protocol import OptimizerFactory

States = dict[Tensor, dict[str, Any]]

_UNFIT = {
    torch.optim.LBFGS: "it evaluates its function again and again within a step, and a generation gives one gradient",
    torch.optim.SparseAdam: "it takes sparse gradients, and the search's is dense; use Adam",
}
_UNFIT_FLAGS = {
    "maximize": "a strategy already turns the sign of the gradient, so the search would be for the worst",
    "differentiable": "nothing is differentiated through a step",
    "capturable": "it is for CUDA graphs, and the search runs on the CPU",
}


def check_optimizer(factory: OptimizerFactory, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser that the factory makes, unless it cannot step along a search gradient.

    Raises:
        TypeError: If `factory` does not make an optimiser.
        ValueError: If it makes one of an unfit kind; the error says why.
    """
    way = "give a function that makes one, such as partial(torch.optim.Adam, lr=0.02)"
    if not callable(factory):
        made = "an optimiser that was made already" if isinstance(factory, torch.optim.Optimizer) else repr(factory)
        raise TypeError(f"`optimizer` must make an optimiser of the parameters that are searched, got {made}; {way}.")
    optimizer = factory(parameters)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"`optimizer` must make a torch.optim.Optimizer, got {type(optimizer).__name__}; {way}.")
    for kind, reason in _UNFIT.items():
        if isinstance(optimizer, kind):
            raise ValueError(f"`optimizer` must not be {kind.__name__}: {reason}.")
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if held.isdisjoint(map(id, parameters)):
        raise ValueError("`optimizer` must step the parameters that it is given, and it holds none of them.")
    check_flags(optimizer)
    return optimizer


def check_flags(optimizer: torch.optim.Optimizer) -> None:
    """Refuse the flags with which a step would not climb.

    Raises:
        ValueError: If one is set.
    """
    for group in optimizer.param_groups:
        for flag, reason in _UNFIT_FLAGS.items():
            if group.get(flag):
                raise ValueError(f"`optimizer` must not have `{flag}=True`: {reason}; leave it out.")


def states_of(optimizer: torch.optim.Optimizer) -> States:
    """Return a copy of what an optimiser keeps for each parameter."""
    return {p: {name: _copied(value) for name, value in state.items()} for p, state in optimizer.state.items()}


def put_back(optimizer: torch.optim.Optimizer, states: States) -> None:
    """Let an optimiser go on from what `states_of` returned.

    Example:
        >>> weight = nn.Parameter(torch.zeros(1))
        >>> optimizer = torch.optim.SGD([weight], lr=1, momentum=0.9)
        >>> states = states_of(optimizer)
        >>> weight.grad = torch.ones(1)
        >>> optimizer.step(); put_back(optimizer, states); len(optimizer.state)
        0
    """
    optimizer.state.clear()
    optimizer.state.update(states)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)
