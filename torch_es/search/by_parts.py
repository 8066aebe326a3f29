"""The step of a large module, one parameter at a time: the sum of its noise, its gradient, its step.

Besides theta and the module, only one parameter's tensors exist at a time. A step is whole or does not happen: a first
pass tries every parameter's step and takes it back, and a second one steps. So each sum is computed twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.errors import NonFiniteError
from torch_es.search.noise import blocks, room
from torch_es.search.parameters import FlatParameters
from torch_es.search.perturbation import Noisy, Sigma, chunks
from torch_es.search.rule import finite_norm
from torch_es.types import Float64Array

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


@torch.no_grad()
def climb(
    parameters: FlatParameters,
    theta: Tensor,
    optimizer: torch.optim.Optimizer,
    compute: Callable[[], Iterator[Tensor]],
) -> Norms:
    """Let the optimiser climb from theta, which is changed in place, along the gradients that `compute` yields.

    Raises:
        NonFiniteError: If a gradient or a step is not finite; then nothing has changed.
    """
    everything = list(zip(parameters.named.values(), parameters.masters, parameters.parts(theta), strict=True))
    squares = np.zeros(3)
    for (p, master, own), gradient in zip(everything, compute(), strict=True):
        squares += np.square(_tried(optimizer, p, master, own, gradient))
    for (p, master, own), gradient in zip(everything, compute(), strict=True):
        _step(optimizer, master, gradient)
        own.copy_(master.reshape(-1))
        p.copy_(own.view(p.shape))
    return Norms(*map(float, np.sqrt(squares)))


def _tried(
    optimizer: torch.optim.Optimizer, p: nn.Parameter, master: nn.Parameter, own: Tensor, gradient: Tensor
) -> Norms:
    """Step one parameter from the centre and take it back; return the lengths of its vectors."""
    before, norm = own.clone(), float(gradient.norm())
    master.copy_(before.view(p.shape))  # a loop over members that an exception ended moved the module
    state = copy.deepcopy(optimizer.state[master]) if master in optimizer.state else None
    try:
        _step(optimizer, master, gradient)
        after = master.reshape(-1)
        # the rounded extremes: no copy of the rest is needed
        ends = torch.stack(torch.aminmax(after)).to(p.dtype) if after.numel() else after
        if not torch.isfinite(ends).all():
            raise NonFiniteError("The update would make parameters non-finite; lower the learning rate.")
        return Norms(norm, float(after.norm()), float(after.sub_(before).norm()))
    finally:
        master.copy_(before.view(p.shape))
        if state is None:
            optimizer.state.pop(master, None)
        else:
            optimizer.state[master] = state


def _step(optimizer: torch.optim.Optimizer, master: nn.Parameter, gradient: Tensor) -> None:
    """Step one parameter, whose gradient is negated in place; those without one stay where they are."""
    master.grad = gradient.neg_().view(master.shape).to(master.device, master.dtype)
    try:
        optimizer.step()
    except RuntimeError as error:  # torch refuses a step size beyond float32
        raise NonFiniteError(f"The optimiser could not step, {error}; lower the learning rate.") from error
    finally:
        master.grad = None
