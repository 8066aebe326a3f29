"""The step of a large module, one parameter at a time: the sum of its noise, its gradient, its step.

Besides theta and the module, memory holds one parameter's tensors at a time, and of low-rank noise the draws of a few
neighbours. A step is whole or does not happen: a first pass tries every parameter's step and takes it back, and a
second one steps. So each sum is computed twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.errors import NonFiniteError
from torch_es.search.noise import blocks, room
from torch_es.search.parameters import FlatParameters, in_layout, sent
from torch_es.search.perturbation import Noisy, Sigma, chunks
from torch_es.search.rule import finite_norm, stepping
from torch_es.types import Float64Array

_ONE_BY_ONE = "a module that is large, or on another device than the CPU, is stepped one parameter at a time"
_PIECE = 1 << 20  # elements that are looked at in the processor's cache, since memory is what the time goes into

Update = Callable[[Tensor, Sigma], tuple[Tensor, Sigma]]


class Norms(NamedTuple):
    """Lengths of a step's vectors."""

    gradient: float
    theta: float
    change: float


def part_sum(noise: Noisy, start: int, stop: int, linear: Float64Array, device: torch.device) -> Tensor:
    """Return elements `start` to `stop` of `serial_sum(noise, linear)`, `(1, stop - start)`, made on a device.

    On the CPU it has the same bits. Elsewhere all elements are summed at once, since small pieces are slow there.
    """
    first, *others = chunks(noise.dim, len(linear))
    total = room(1, stop - start, device)
    for at, end in blocks(start, stop, noise.dim) if device.type == "cpu" else [(start, stop)]:
        whole = room(1, end - at, device)
        noise.sum_span(whole, at, first, linear, None)
        for pairs in others:
            part = torch.empty_like(whole)
            noise.sum_span(part, at, pairs, linear, None)
            whole += part
        begin, last = max(start, at), min(stop, end)
        total[:, begin - start : last - start] = whole[:, begin - at : last - at]
    return total


def gradients(
    parameters: FlatParameters, noise: Noisy, linear: Float64Array, update: Update, sigma: Sigma
) -> Iterator[Tensor]:
    """Yield the gradient of each parameter, `(size,)`, on its device, with the `update` of a `Plan`.

    Raises:
        NonFiniteError: If one is not finite.
    """
    start = 0
    for p in parameters.named.values():
        stop = start + p.numel()
        own = sigma[start:stop].to(p.device) if isinstance(sigma, Tensor) else sigma
        gradient, _ = update(part_sum(noise, start, stop, linear, p.device), own)
        finite_norm(gradient)
        yield gradient
        start = stop


class Step:
    """The step of a large module: tried whole, then made, one parameter after another.

    It has memory of the CPU for the largest parameter, since fresh memory for each would cost more time than the step.

    Args:
        parameters: Of the module.
        theta: The centre, `(dim,)`, which is changed in place.
        optimizer: Steps the masters.

    Raises:
        ValueError: If the optimiser has step hooks, which would see one parameter at a time.
    """

    def __init__(self, parameters: FlatParameters, theta: Tensor, optimizer: torch.optim.Optimizer) -> None:
        if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
            raise ValueError(f"`optimizer` must have no step hooks: {_ONE_BY_ONE}.")
        self._optimizer, self._groups = optimizer, optimizer.param_groups
        named, dtype = parameters.named.values(), parameters.dtype
        self._all = list(zip(named, parameters.masters, parameters.parts(theta), strict=True))
        most = max((p.numel() for p in named if not p.is_cpu), default=0)
        self._gradient = torch.empty(most, dtype=dtype, device="cpu", pin_memory=any(p.is_cuda for p in named))
        most = max((p.numel() for p, master, _ in self._all if p is not master), default=0)
        self._trial = torch.empty(most, dtype=dtype, device="cpu")

    @torch.no_grad()
    def tried(self, gradients: Iterator[Tensor]) -> Norms:
        """Try each parameter's step and take it back; return the lengths of the whole step's vectors.

        Raises:
            NonFiniteError: If a gradient or a step is not finite.
            ValueError: If the optimiser counts steps in its groups, which would count each parameter.
        """
        before = [copy.deepcopy({key: value for key, value in g.items() if key != "params"}) for g in self._groups]
        squares = np.zeros(3)
        for (p, master, own), gradient in zip(self._all, gradients, strict=True):
            squares += np.square(self._tried(p, master, own, gradient))
            self._check_groups(before)
        return Norms(*map(float, np.sqrt(squares)))

    @torch.no_grad()
    def make(self, gradients: Iterator[Tensor]) -> None:
        """Climb along the gradients."""
        for (p, master, own), gradient in zip(self._all, gradients, strict=True):
            self._step(master, gradient)
            if master.data_ptr() != own.data_ptr():
                own.copy_(master.reshape(-1))
            p.copy_(sent(own, p))
        torch.clear_autocast_cache()

    def _check_groups(self, before: list[dict[str, Any]]) -> None:
        """Raise a ValueError if the groups' options have changed, and put them back."""
        pairs = list(zip(self._groups, before, strict=True))
        changed = [key for group, options in pairs for key in options if str(group[key]) != str(options[key])]
        if changed:
            for group, options in pairs:
                group.update(options)
            raise ValueError(f"`optimizer` must not count in its groups, as it does in `{changed[0]}`: {_ONE_BY_ONE}.")

    def _step(self, master: nn.Parameter, gradient: Tensor) -> None:
        """Step one parameter, whose gradient is negated in place; those without one stay where they are."""
        gradient = gradient.neg_()
        if not gradient.is_cpu:
            gradient = self._gradient[: gradient.numel()].copy_(gradient)
        master.grad = in_layout(gradient, master)
        try:
            with stepping():
                self._optimizer.step()
            self._let_keep(self._optimizer.state.get(master, {}))
        finally:
            master.grad = None

    def _let_keep(self, state: dict[str, Any]) -> None:
        """Give an optimiser that keeps gradients one of its own, since the next one comes into the same memory."""
        ours = self._gradient.untyped_storage().data_ptr()
        for name, value in state.items():
            if isinstance(value, Tensor) and value.is_cpu and value.untyped_storage().data_ptr() == ours:
                state[name] = value.clone()

    def _tried(self, p: nn.Parameter, master: nn.Parameter, own: Tensor, gradient: Tensor) -> Norms:
        """Step a copy of one parameter from the centre, or itself and back; return the lengths of its vectors."""
        norm, held = float(gradient.norm()), master.data
        trial = held if p is master else self._trial[: own.numel()].view(p.shape)
        trial.copy_(own.view(p.shape))  # also since a loop over members that an exception ended moved the module
        state = self._optimizer.state
        kept = copy.deepcopy(state[master]) if master in state else None
        try:
            master.data = trial
            self._step(master, gradient)
            return Norms(norm, *_lengths(master.data.reshape(-1), own, p.dtype))
        finally:
            master.data = held
            if p is master:
                held.copy_(own.view(p.shape))
            if kept is None:
                state.pop(master, None)
            else:
                state[master] = kept


def _lengths(after: Tensor, before: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    """Return the length of `after`, and of what it has more than `before`; `after` is overwritten.

    Raises:
        NonFiniteError: If `after` is not finite in the module's dtype.
    """
    squares = np.zeros(2)
    for start in range(0, after.numel(), _PIECE):
        piece = after[start : start + _PIECE]
        # the rounded extremes: no copy of the rest is needed
        if not torch.isfinite(torch.stack(torch.aminmax(piece)).to(dtype)).all():
            raise NonFiniteError("The update would make parameters non-finite; lower the learning rate.")
        length = float(piece.norm())
        squares += np.square((length, float(piece.sub_(before[start : start + _PIECE]).norm())))
    norm, change = np.sqrt(squares)
    return float(norm), float(change)
