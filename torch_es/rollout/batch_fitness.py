"""A fitness that follows from batches: of prompts to answer, of examples to classify."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from torch_es.checks import check_count, check_flag, described
from torch_es.types import Float64Array


def nothing(generation: int) -> None:
    """Return no batch."""


@dataclasses.dataclass(frozen=True)
class BatchFitness:
    """`fitness_fn(module, batch)` for the `fitness_fn` of `ES`: all members of a generation answer the same batch.

    Attributes:
        fitness_fn: Returns how good the module's answers are: a number, or one for each prompt of the batch.
        batches: `batches(generation)` returns the batch. It must follow from the generation's number alone, since it is
            called wherever members are evaluated, and again when a run is resumed. All members get the same tensors,
            so `fitness_fn` must leave them as they are; a dict or list is copied.
        members_per_call: How many members answer in one call, which needs noise of low rank. With more than one, the
            module takes the rows of so many members, members first, as `x.repeat(members_per_call, 1)` has them, and
            `fitness_fn` returns `(members_per_call,)` or `(members_per_call, prompts)`.
        within_prompts: Whether a member is worth the mean over prompts of how its fitness compares with the others':
            `(fitness - mean) / deviation` over the members. Prompts that are easy for all then weigh nothing, as in
            GRPO's groups (Shao et al. 2024, arXiv:2402.03300).

    Raises:
        TypeError: If a function is no function, or `within_prompts` is not True or False.
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
        for name in ("fitness_fn", "batches"):
            if not callable(function := getattr(self, name)):
                raise TypeError(f"`{name}` must be a function, got {function!r}.")
        object.__setattr__(self, "members_per_call", check_count("members_per_call", self.members_per_call))
        check_flag("within_prompts", self.within_prompts)

    def answers(self, module: Any, batch: Any) -> Float64Array:
        """Return the fitness of the module's answers to a batch, `(members_per_call, prompts)`; see `rows`.

        Raises:
            TypeError: If the batch is an iterator, which the first member would use up.
            ValueError: If `fitness_fn` changes its batch, which later members get too.
        """
        if isinstance(batch, Iterator):
            raise TypeError(f"`batches` must return what can be read again for each member, got {described(batch)}.")
        given = copy.copy(batch) if isinstance(batch, MutableMapping | MutableSequence) else batch
        before = _versions(batch)
        rows = self.rows(self.fitness_fn(module, given))
        if _versions(batch) != before:
            raise ValueError("`fitness_fn` must leave its batch as it is, but changed something in it; change a copy.")
        return rows

    def rows(self, answer: Any) -> Float64Array:
        """Return what `fitness_fn` returned as `(members_per_call, prompts)`; a number is one prompt.

        Raises:
            TypeError: If it does not hold numbers.
            ValueError: If it has another shape.
        """
        if isinstance(answer, (list, tuple)) and answer and all(isinstance(each, Tensor) for each in answer):
            answer = torch.stack(tuple(answer)) if len({each.shape for each in answer}) == 1 else answer
        if isinstance(answer, Tensor) and not answer.is_complex():
            answer = answer.detach().cpu().double().numpy()
        try:
            array = np.asarray(answer)
        except ValueError:  # lists of different lengths
            array = np.empty(0, np.object_)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"`fitness_fn` must return real numbers, as many for each member, got {described(answer)}.")
        count, shape = self.members_per_call, array.shape
        if count == 1:
            wanted, fits = "a number or (prompts,)", array.ndim <= 1
        else:
            wanted, fits = f"({count},) or ({count}, prompts)", array.ndim in (1, 2) and shape[0] == count
        if not fits or not array.size:
            raise ValueError(f"`fitness_fn` must return {wanted} with `members_per_call={count}`, got shape {shape}.")
        return array.reshape(count, -1).astype(np.float64)


def _versions(batch: Any) -> list[int]:
    """Return numbers that change when the tensors and arrays of a batch are changed in place."""
    leaves = tree_leaves(dict(batch) if isinstance(batch, Mapping) else batch)
    tensors = [leaf._version for leaf in leaves if isinstance(leaf, Tensor) and not leaf.is_inference()]
    return tensors + [hash(leaf.tobytes()) for leaf in leaves if isinstance(leaf, np.ndarray)]


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
