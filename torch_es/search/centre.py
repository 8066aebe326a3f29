"""The search that all rules share: a centre, mirrored pairs around it, and an optimiser that moves it."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypedDict, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from torch_es.checks import check_choice, check_count, check_kind, check_positive
from torch_es.errors import NonFiniteError
from torch_es.search.arguments import hint
from torch_es.search.by_parts import Norms, Step, gradients
from torch_es.search.low_rank import low_rank
from torch_es.search.noise import Generator, resolve_generator
from torch_es.search.optimizers import check_flags, check_optimizer, put_back, states_of
from torch_es.search.parameters import LARGE, FlatParameters, as_module
from torch_es.search.perturbation import Mirrored, Perturbation, Sigma, Summation, Unperturbed, serial_sum
from torch_es.search.protocol import OptimizerFactory, Outcome, Population, SchedulerFactory, as_outcome, as_pairs
from torch_es.search.rule import (
    NonFinite,
    Plan,
    Rule,
    check_coefficients,
    finite_norm,
    kept_pairs,
    spread,
    stepping,
    sums_for,
)
from torch_es.seeding import check_seed
from torch_es.types import Float64Array

_log = logging.getLogger(__name__)


class SearchOptions(TypedDict, total=False):
    """What every strategy takes besides its own arguments; see `CentreSearch`."""

    num_pairs: int | None
    population_size: int | None
    non_finite: NonFinite
    seed: int
    scheduler: SchedulerFactory | None
    rank: int | None
    noise: Generator | None


class CentreSearch:
    """Moves a centre with a `torch.optim` optimiser, along the gradient that a rule makes from a generation's fitness.

    Args:
        target: A module, trained in place, or a vector, copied.
        optimizer: Makes the optimiser from the parameters, as `functools.partial(torch.optim.Adam, lr=0.01)` does. Its
            param groups may carry a `sigma` of their own. Any but LBFGS and SparseAdam; Muon takes matrices alone.
        rule: Turns fitness into a gradient; see `torch_es.search.rule.Plan`.
        sigma: Standard deviation of the noise; a param group's own `sigma` takes precedence. None if there is no noise.
        num_pairs: Mirrored pairs in a generation, 16 by default.
        population_size: Number of members, `2 * num_pairs`; give this or `num_pairs`, not both.
        non_finite: What becomes of a pair with a NaN or infinite fitness: "drop" it, or "raise".
        seed: The noise follows from it.
        scheduler: Makes a learning-rate scheduler from the optimiser; stepped once a generation.
        adapts_sigma: Whether each parameter has a sigma of its own, which the rule moves.
        perturb: Makes a generation's perturbation from seed, generation, number of parameters and sigma; by default
            mirrored pairs.
        rank: Of the noise on matrices; see `torch_es.search.low_rank`. None for dense noise.
        noise: The generator: "sfc64", or "philox", which gives the same bits on any device. By default the former on
            the CPU and the latter elsewhere.

    Attributes:
        theta: The centre, `(dim,)`.
        generation: The number of the next one.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        target: nn.Module | Tensor,
        optimizer: OptimizerFactory,
        rule: Rule,
        sigma: float | None,
        *,
        num_pairs: int | None = None,
        population_size: int | None = None,
        non_finite: NonFinite = "drop",
        seed: int = 0,
        scheduler: SchedulerFactory | None = None,
        adapts_sigma: bool = False,
        perturb: Callable[[int, int, int, Sigma], Perturbation] | None = None,
        rank: int | None = None,
        noise: Generator | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            known = {"sigma", "optimizer", *SearchOptions.__annotations__}
            raise TypeError(f"`{name}` is not an argument of this strategy.{hint(name, known)}")
        self.num_pairs = resolve_pairs(num_pairs, population_size)
        self.seed = check_seed(seed)
        self.non_finite = check_choice("non_finite", non_finite, get_args(NonFinite))
        self.rule = rule
        self.parameters = FlatParameters(as_module(target))
        self.noise = resolve_generator(noise, self.parameters.on_cpu)
        self.optimizer = check_optimizer(optimizer, self.parameters.masters)
        check_kind("scheduler", scheduler, Callable)
        self.scheduler = scheduler(self.optimizer) if scheduler else None
        if isinstance(self.scheduler, ReduceLROnPlateau) and self.scheduler.mode == "min":
            raise ValueError("`scheduler` gets the mean return, which should rise: give ReduceLROnPlateau mode='max'.")
        self.generation = 0
        self._half_done = False  # a step that an error ended in its middle
        self._ended: Exception | None = None  # why the scheduler cannot go on
        self.theta = self.parameters.read_masters()
        if rank is not None:
            if adapts_sigma or sigma is None:
                raise ValueError(
                    f"`rank` must be left out with this strategy, got {rank}: {_UNFACTORED[sigma is None]}."
                )
            perturb = low_rank(self.parameters, rank, self.noise)
        self.rank, self._perturb = rank, perturb or partial(Mirrored, generator=self.noise)
        self._asked: Population | None = None  # of this generation
        self._default_sigma = sigma
        self._adapted = torch.ones_like(self.theta) * self._given_sigma() if adapts_sigma else None
        _ = self.sigma  # checked before anything runs

    @property
    def sigma(self) -> Sigma:
        """Standard deviation of the noise: a number, or a vector `(dim,)` where parameters differ in it."""
        return self._given_sigma() if self._adapted is None else self._adapted

    def _given_sigma(self) -> Sigma:
        if self._default_sigma is None:
            return 0.0
        default = check_positive("sigma", self._default_sigma)
        own = {
            id(p): check_positive("sigma", group.get("sigma", default))
            for group in self.optimizer.param_groups
            for p in group["params"]
        }
        values = [own.get(id(p), default) for p in self.parameters.masters]
        if all(value == values[0] for value in values):
            return values[0]
        parts = [
            torch.full((size,), value, device="cpu") for size, value in zip(self.parameters.sizes, values, strict=True)
        ]
        return torch.cat(parts).to(self.parameters.dtype)

    def ask(self) -> Population:
        """Return the members to evaluate, in mirrored pairs, around the weights that are in the module now.

        Of a module of more than 32 million parameters, the weights that somebody wrote into it are not looked for.

        Raises:
            ValueError: If other parameters are trainable than at the start, or a weight is not finite.
        """
        if self._asked is None:
            if self.parameters.dim <= LARGE and self.parameters.changed(self.theta):
                self.move(self.parameters.read_module())
            perturbation = self._perturb(self.seed, self.generation, self.parameters.dim, self.sigma)
            self._asked = Population(self.generation, perturbation, self._centre, self.parameters, self.num_pairs)
        return self._asked

    def _centre(self) -> Tensor:
        return self.theta

    def plan(self, outcome: Any) -> tuple[Plan, npt.NDArray[np.bool_]]:
        """Return the sums that the rule makes of an outcome, and which pairs it learns from, `(num_pairs,)`."""
        fitness = as_pairs(as_outcome(outcome).fitness)
        kept = kept_pairs(fitness, self.non_finite)
        plan = self.rule(fitness[kept])
        check_coefficients(plan)
        return plan, kept

    @torch.inference_mode(False)
    def tell(self, outcome: Any, summation: Summation | None = None) -> dict[str, float]:
        """Move the centre; see `Strategy.tell`.

        Raises:
            NonFiniteError: If no pair has a finite fitness, or the step is not finite; the centre stays where it was.
        """
        population = self.ask()
        own_loop = summation is None  # of the caller, who evaluates the members
        if own_loop and isinstance(population.perturbation, Unperturbed):
            raise ValueError("`sigma` must be positive for a function of the weights: there are no actions to search.")
        outcome = as_outcome(outcome)
        told, members = outcome.fitness.size, len(population)
        if own_loop and told != members:
            raise ValueError(f"`tell` must get a fitness for each of {members} members, got {told}.")
        plan, kept = self.plan(outcome)
        if self.generation == 0:
            _warn_of_equals(outcome.fitness, own_loop)
        sigma = self.sigma
        noise = population.perturbation
        if self.parameters.by_parts and plan.squared is None and not isinstance(noise, Unperturbed):
            metrics = self._step_by_parts(plan, kept, noise)
        else:
            sums = sums_for(plan, kept, noise, summation or serial_sum)
            gradient, sigma = plan.update(sums, sigma)
            metrics = self._step(gradient)
        if self._adapted is not None:
            self._adapted = torch.as_tensor(sigma)
        self._schedule(outcome)
        metrics["es/dropped_pairs"] = float(np.count_nonzero(~kept))
        return {**metrics, "train/sigma": float(sigma.mean()) if isinstance(sigma, Tensor) else sigma}

    def _step(self, gradient: Tensor) -> dict[str, float]:
        """Let the optimiser climb along `gradient`, `(dim,)`, and end the generation."""
        grad_norm = finite_norm(gradient)
        self._check_step()
        before = self.theta.clone() if self.parameters.by_parts else self.theta  # there it is changed in place
        kept = states_of(self.optimizer) if self.parameters.dim <= LARGE else None
        self._half_done = True
        self.parameters.write_module(before)  # a loop over members that an exception ended moved the module
        self.parameters.set_grad(gradient)
        del gradient
        try:
            with stepping():
                self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            theta = self.parameters.read_masters()
            self.parameters.write_module(theta)
            norm = float(theta.norm())
            if not (math.isfinite(norm) and self.parameters.finite()):  # F42a
                raise NonFiniteError("The update would make parameters non-finite; lower the learning rate.")
        except BaseException:  # perhaps in the middle of the parameters
            self.parameters.write_all(before)
            if kept is not None:
                put_back(self.optimizer, kept)
                self._half_done = False
            raise
        self.theta = theta
        return self._stepped(Norms(grad_norm, norm, float((theta - before).norm())))

    def _step_by_parts(self, plan: Plan, kept: npt.NDArray[np.bool_], noise: Any) -> dict[str, float]:
        """The same for a large module; see `torch_es.search.by_parts`."""
        self._check_step()
        linear = spread(plan.linear, kept)
        compute = partial(gradients, self.parameters, noise, linear, plan.update, self.sigma)
        step = Step(self.parameters, self.theta, self.optimizer)
        norms = step.tried(compute())
        self._half_done = True
        step.make(compute())
        return self._stepped(norms)

    def _check_step(self) -> None:
        if self._half_done:  # there was no room for a copy to go back to
            raise NonFiniteError("The last step failed in its middle, so the module is not whole; load a checkpoint.")
        if self._ended is not None:
            done = self.generation - 1
            raise ValueError(f"`scheduler` cannot go on after generation {done}: {self._ended}") from self._ended
        check_flags(self.optimizer)  # again: anyone may write into param groups

    def _stepped(self, norms: Norms) -> dict[str, float]:
        """End the generation."""
        learning_rate = self.optimizer.param_groups[0]["lr"]
        self._asked = None
        self.generation += 1
        self._half_done = False
        return {
            "es/grad_norm": norms.gradient,
            "es/param_norm": norms.theta,
            "es/update_ratio": norms.change / max(norms.theta, 1e-12),
            "train/learning_rate": float(learning_rate),
        }

    def move(self, theta: Tensor) -> None:
        """Put the centre at `theta`, shape `(dim,)`, and write it into the module."""
        self.parameters.write_all(theta)
        self.theta, self._asked = self.parameters.read_masters(), None

    def _schedule(self, outcome: Outcome) -> None:
        """Step the scheduler. If it has run out, the error is raised at the next step, since this one is complete."""
        if self.scheduler:
            reached = outcome.fitness if outcome.returns is None else outcome.returns  # fitness may be relative
            step: Callable[..., None] = self.scheduler.step
            plateau = isinstance(self.scheduler, ReduceLROnPlateau)
            try:
                step(*([float(reached[np.isfinite(reached)].mean())] if plateau else []))
            except Exception as error:  # noqa: BLE001 - a scheduler of the user's own may raise anything
                self._ended = error

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next generation depends on; of a module of up to 32 million parameters, a copy.

        Raises:
            NonFiniteError: If the last step failed in its middle, so that the optimiser's state is not whole.
        """
        if self._half_done:
            raise NonFiniteError("The last step failed in its middle, so the state of the optimiser is not saved.")
        state = {
            "generation": self.generation,
            "seed": self.seed,
            "rank": self.rank,
            "noise": self.noise,
            "theta": self.theta,
            "sigma": self._adapted,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
        }
        return state if self.parameters.dim > LARGE else copy.deepcopy(state)

    @torch.inference_mode(False)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            ValueError: If it belongs to another module, strategy, seed, rank or noise, or one of the two has no
                scheduler.
        """
        if (state["sigma"] is None) != (self._adapted is None):
            had = "one sigma for all parameters" if state["sigma"] is None else "a sigma for each parameter"
            raise ValueError(f"The state is of another strategy: it has {had}.")
        if state["theta"].shape != self.theta.shape:
            raise ValueError(
                f"`theta` has {state['theta'].numel()} parameters in the state but {self.parameters.dim} in the module."
            )
        made = {"rank": None, "noise": "sfc64", **state}  # older states lack the two
        for name in ("seed", "rank", "noise"):
            if (value := made[name]) != (own := getattr(self, name)):
                raise ValueError(f"`{name}` must be the one that the state was made with, {value}, got {own}.")
        if (state["scheduler"] is None) != (self.scheduler is None):
            rule, had = ("left out", "none") if self.scheduler else ("given", "one")
            raise ValueError(
                f"`scheduler` must be {rule}: the state was saved with {had}. For another learning rate, begin "
                "anew: give the network that was trained to a new `ES`."
            )
        for then, now in zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=False):
            if lacking := sorted(now.keys() - then.keys()):
                raise ValueError(f"`optimizer` must be the one of the state, which has no {', '.join(lacking)}.")
        own = (
            state["optimizer"] if self.parameters.dim > LARGE else copy.deepcopy(state["optimizer"])
        )  # torch shares it
        self.optimizer.load_state_dict(own)  # F29b
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])  # F29a
        self.generation = state["generation"]
        self._half_done, self._ended = False, None
        self._adapted = None if state["sigma"] is None else state["sigma"].clone()
        self.move(state["theta"])


def _warn_of_equals(fitness: Float64Array, own_loop: bool) -> None:
    if len(fitness) > 2 and np.ptp(fitness) == 0:
        hint = (
            " The members of a module are that module, with other weights each time: evaluate them in the loop, not "
            "from `list(strategy.ask())`."
        )
        _log.warning("All members returned %g: this generation teaches nothing.%s", fitness[0], hint * own_loop)


_UNFACTORED = (
    "a sigma for each parameter moves by sums of squared noise, which noise of low rank does not have; use openai_es "
    "or ars",
    "the weights have no noise",
)


def resolve_pairs(num_pairs: int | None, population_size: int | None) -> int:
    """Return the number of mirrored pairs, given either as pairs or as members; 16 by default.

    Raises:
        ValueError: If both are given, or `population_size` is odd.

    Example:
        >>> resolve_pairs(None, 10)
        5
    """
    if population_size is None:
        return check_count("num_pairs", 16 if num_pairs is None else num_pairs)
    if num_pairs is not None:
        raise ValueError(f"Give `num_pairs` or `population_size`, not both; got {num_pairs} and {population_size}.")
    size = check_count("population_size", population_size, minimum=2)
    if size % 2:
        raise ValueError(f"`population_size` must be even for mirrored pairs, got {size}; use {size + 1}.")
    return size // 2
