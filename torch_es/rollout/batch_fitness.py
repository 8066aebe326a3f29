"""A fitness that follows from batches: of prompts to answer, of examples to classify."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from torch_es.checks import check_count, check_kind, described
from torch_es.types import Float64Array


def nothing(generation: int) -> None:
    """Return no batch."""


@dataclasses.dataclass(frozen=True)
class BatchFitness:
    """`fitness_fn(module, batch)` for the `fitness_fn` of `ES`: all members of a generation answer the same batch.

    Attributes:
        fitness_fn: Returns how good the module's answers are: a number, or one for each prompt of the batch.
        batches: `batches(generation)` returns the batch. It must follow from the generation's number alone, since it is
            called wherever members are evaluated, and again when a run is resumed.
        members_per_call: How many members answer in one call, which needs noise of low rank. With more than one, the
            module takes the rows of so many members, members first, as `x.repeat(members_per_call, 1)` has them, and
            `fitness_fn` returns `(members_per_call,)` or `(members_per_call, prompts)`.
        within_prompts: Whether a member is worth the mean over prompts of how its fitness compares with the others':
            `(fitness - mean) / deviation` over the members. Prompts that are easy for all then weigh nothing, as in
            GRPO's groups (Shao et al. 2024, arXiv:2402.03300).

    Raises:
        TypeError: If a function is no function.
        ValueError: If `members_per_call` is below 1.

    Example:
        >>> import torch
        >>> from torch_es import ES
        >>> fitness = BatchFitness(
        ...     fitness_fn=lambda module, x: -(module(x)[:, 0] - x[:, 0]).square(),
        ...     batches=lambda generation: torch.randn(8, 3, generator=torch.Generator().manual_seed(generation)),
        ... )
        >>> es = ES(torch.nn.Linear(3, 1), fitness_fn=fitness, sigma=0.1, num_workers=0)
        >>> before = es.evaluate(1)[0].return_
        >>> es.learn(3200).evaluate(1)[0].return_ > before / 2
        True
    """

    fitness_fn: Callable[[Any, Any], Any]
    batches: Callable[[int], Any] = nothing
    members_per_call: int = 1
    within_prompts: bool = False

    def __post_init__(self) -> None:
        check_kind("fitness_fn", self.fitness_fn, Callable)
        check_kind("batches", self.batches, Callable)
        check_count("members_per_call", self.members_per_call)

    def rows(self, answer: Any) -> Float64Array:
        """Return what `fitness_fn` returned as `(members_per_call, prompts)`; a number is one prompt.

        Raises:
            TypeError: If it does not hold numbers.
            ValueError: If it has another shape.
        """
        array = answer.detach().cpu().double().numpy() if isinstance(answer, Tensor) else np.asarray(answer)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"`fitness_fn` must return numbers, got {described(answer)}.")
        count, shape = self.members_per_call, array.shape
        if count == 1:
            wanted, fits = "a number or (prompts,)", array.ndim <= 1
        else:
            wanted, fits = f"({count},) or ({count}, prompts)", array.ndim in (1, 2) and shape[0] == count
        if not fits or not array.size:
            raise ValueError(f"`fitness_fn` must return {wanted} with `members_per_call={count}`, got shape {shape}.")
        return array.reshape(count, -1).astype(np.float64)


def within_prompts(fitness: Float64Array) -> Float64Array:
    """Return what members are worth, `(members,)`, from their fitness in each prompt, `(members, prompts)`.

    Members with a fitness that is not finite get NaN, and the others are compared without them.

    Example:
        >>> within_prompts(np.array([[0.0, 5.0], [2.0, 5.0]]))
        array([-0.5,  0.5])
    """
    finite = np.isfinite(fitness).all(axis=1)
    kept = fitness[finite]
    worth = np.full(len(fitness), np.nan)
    if len(kept):
        deviation = kept.std(axis=0)
        relative = (kept - kept.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        worth[finite] = relative.mean(axis=1)
    return worth
