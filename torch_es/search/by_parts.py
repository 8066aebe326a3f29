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
from torch_es.search.noise import BLOCK
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
    """Return elements `start` to `stop` of `serial_sum(noise, linear)`, `(1, stop - start)`: on a CPU, its bits."""
    total = torch.zeros(1, stop - start, device=device)
    first, *others = chunks(noise.dim, len(linear))
    if device.type != "cpu":
        noise.sum_span(total, start, range(len(linear)), linear, None)
        return total
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        at = block * BLOCK
        size = min(BLOCK, noise.dim - at)
        whole, part = torch.empty(1, size), torch.empty(1, size)
        noise.sum_span(whole, at, first, linear, None)
        for pairs in others:
            noise.sum_span(part, at, pairs, linear, None)
            whole += part
        begin, end = max(start, at), min(stop, at + size)
        total[:, begin - start : end - start] = whole[:, begin - at : end - at]
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
        ends = torch.stack(torch.aminmax(after)).to(p.dtype)  # the rounded extremes: no copy of the rest is needed
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
