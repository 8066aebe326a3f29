"""The search gradient with a `backward` of its own, for training loops written by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from torch_es.checks import check_choice, check_positive
from torch_es.search.by_parts import gradients
from torch_es.search.centre import resolve_pairs
from torch_es.search.low_rank import low_rank
from torch_es.search.noise import Generator, resolve_generator
from torch_es.search.openai_es import search_gradient
from torch_es.search.parameters import FlatParameters, kept_buffers
from torch_es.search.perturbation import Mirrored, serial_sum
from torch_es.search.protocol import Population, as_number, as_pairs
from torch_es.search.rule import NonFinite, Plan, check_coefficients, finite_norm, kept_pairs, spread, sums_for
from torch_es.search.shaping import Shaping, resolve
from torch_es.seeding import check_seed
from torch_es.types import Float64Array


class SearchGradient:
    """Estimates the gradient of any function of a module and adds it to `.grad`, as `loss.backward()` does.

    It has no optimiser. Yours steps, and it may also use autograd's gradients, of the same parameters or of others. The
    estimate is that of `OpenAIES`: mirrored pairs, shaped returns, noise that follows from the seed.

    Ranked returns (`centered_ranks`, the default) give a direction but not its steepness. That suits parameters which
    only the search moves, with Adam. If both gradients meet in the same parameters, `shaping="identity"` keeps the
    function's own scale.

    Args:
        module: Its trainable parameters are searched; give a part of a model to search that part alone.
        sigma: Standard deviation of the perturbation.
        num_pairs: Mirrored pairs for one estimate: the function is called twice for each.
        population_size: Instead of `num_pairs`, an even number of members.
        shaping: Name or function from returns to weights, both `(num_pairs, 2)`.
        non_finite: What becomes of a pair with a NaN or infinite return: "drop" it, or "raise".
        seed: The noise follows from it.
        rank: Of the noise on matrices; see `torch_es.search.low_rank`. None for dense noise.
        noise: The generator, "sfc64" or "philox"; see `torch_es.search.CentreSearch`.

    Attributes:
        generation: How many estimates were made. Each has its own noise: to continue later, save and restore it.

    Raises:
        TypeError: If `module` is not a module.
        ValueError: If none of its parameters is trainable, or a value is out of its range.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> es = SearchGradient(model, sigma=0.1, num_pairs=16)
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        >>> for _ in range(100):
        ...     optimizer.zero_grad()
        ...     returns = es.backward(lambda model: -model.weight.sub(1).abs().sum())
        ...     optimizer.step()
        >>> bool((model.weight - 1).abs().max() < 0.1)
        True
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        sigma: float = 0.04,
        num_pairs: int | None = None,
        population_size: int | None = None,
        shaping: str | Shaping = "centered_ranks",
        non_finite: NonFinite = "drop",
        seed: int = 0,
        rank: int | None = None,
        noise: Generator | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"`module` must be a torch.nn.Module, got {type(module).__name__}.")
        self.num_pairs = resolve_pairs(num_pairs, population_size)
        self.sigma = check_positive("sigma", sigma)
        self.rule = partial(search_gradient, shaping=resolve(shaping))
        self.non_finite = check_choice("non_finite", non_finite, get_args(NonFinite))
        self.parameters = FlatParameters(module)
        self.seed = check_seed(seed)
        generator = resolve_generator(noise, self.parameters.on_cpu)
        dense = partial(Mirrored, generator=generator)
        self._perturb = dense if rank is None else low_rank(self.parameters, rank, generator)
        self.generation = 0

    def backward(self, fitness_fn: Callable[[Any], Any]) -> Float64Array:
        """Add `-g` to `.grad` of the module's parameters, so that an optimiser's step climbs, and return the returns.

        Afterwards the module's trainable weights and buffers are what they were, also if the function raises. Of a
        model that holds it, the other buffers are not put back.

        Args:
            fitness_fn: `fitness_fn(module) -> number`, higher is better. It gets the module itself with a member's
                weights in it, without gradients, in the mode it is in; a model that holds it has them too.

        Returns:
            What the members returned, `(num_pairs, 2)`, column 0 is +noise.

        Raises:
            NonFiniteError: If no pair's returns are finite, or the estimate is not; `.grad` is as it was.
            ValueError: If other parameters are trainable than at the start.
        """
        module, dim = self.parameters.module, self.parameters.dim
        self.parameters.trainable()
        noise = self._perturb(self.seed, self.generation, dim, self.sigma)
        theta = self.parameters.read_module()
        population = Population(self.generation, noise, lambda: theta, self.parameters, self.num_pairs)
        returns = []
        with torch.no_grad(), closing(iter(population)) as members:
            for member in members:
                with kept_buffers(module):
                    returns.append(as_number(fitness_fn(member)))
        pairs = as_pairs(np.array(returns))
        kept = kept_pairs(pairs, self.non_finite)
        plan = self.rule(pairs[kept])
        check_coefficients(plan)
        self.parameters.add_grad(self._gradients(plan, kept, noise))
        self.generation += 1
        return pairs

    def _gradients(self, plan: Plan, kept: npt.NDArray[np.bool_], noise: Any) -> Iterable[torch.Tensor]:
        """Return the gradient of each parameter, of which all are finite; those of a large module are made twice."""
        if self.parameters.by_parts:
            compute = partial(gradients, self.parameters, noise, spread(plan.linear, kept), plan.update, self.sigma)
            deque(compute(), maxlen=0)
            return compute()
        gradient, _ = plan.update(sums_for(plan, kept, noise, serial_sum), self.sigma)
        finite_norm(gradient)
        return self.parameters.parts(gradient)
