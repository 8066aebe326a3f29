"""What every strategy is made of: the centre, the optimiser that moves it, and the population around it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.checks import check_count, check_positive
from torch_es.errors import NonFiniteError
from torch_es.search.gradient import NoiseSum, serial_noise_sum
from torch_es.search.noise import Noise
from torch_es.search.parameters import FlatParameters, Vector, as_module
from torch_es.seeding import check_seed
from torch_es.types import Task

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
Sigma = float | Tensor


class Perturbable(Protocol):
    """What a population is made around."""

    generation: int
    num_pairs: int
    parameters: FlatParameters
    noise: Noise
    theta: Tensor


class Population:
    """The members of one generation: `num_pairs` mirrored pairs around the centre.

    Iterating yields the perturbed target of each member in the order +0, -0, +1, -1, ...: a vector `(dim,)` if the
    strategy searches a vector; else the module itself with the member's weights written into it, back at the centre
    when the iteration ends. An exception in the body of a loop or a comprehension ends it only when Python lets go of
    the iterator, with the traceback; `tell` starts from the centre in any case, and
    `with contextlib.closing(iter(es.ask())) as members` puts the module back at once. `tasks()` names the members
    without making their weights.
    """

    def __init__(self, centre: Perturbable, sigma: Sigma) -> None:
        self.generation = centre.generation
        self.num_pairs = centre.num_pairs
        self._centre = centre
        self._sigma = sigma

    def __len__(self) -> int:
        return 2 * self.num_pairs

    def tasks(self) -> Iterator[Task]:
        """Yield the task of each member."""
        for pair in range(self.num_pairs):
            yield Task(self.generation, pair, +1)
            yield Task(self.generation, pair, -1)

    def theta(self, task: Task) -> Tensor:
        """Return the member's weights `theta + sign * sigma * eps`, shape `(dim,)`."""
        eps = np.empty(self._centre.noise.dim, np.float32)
        self._centre.noise.fill(eps, task.generation, task.pair)
        return perturbed(self._centre.theta, self._sigma, task.sign, torch.from_numpy(eps))

    def __iter__(self) -> Generator[Any, None, None]:
        parameters = self._centre.parameters
        if isinstance(parameters.module, Vector):
            yield from map(self.theta, self.tasks())
            return
        try:
            for task in self.tasks():
                parameters.write(self.theta(task))
                yield parameters.module
        finally:
            if not sys.is_finalizing():  # Python ends with the traceback that held this: torch would abort it
                parameters.write(self._centre.theta)


def perturbed(theta: Tensor, sigma: Sigma, sign: int, eps: Tensor, out: Tensor | None = None) -> Tensor:
    """Return `theta + sign * sigma * eps`, always written from the centre, so nothing drifts.

    Example:
        >>> perturbed(torch.ones(2), 0.5, -1, torch.ones(2))
        tensor([0.5000, 0.5000])
    """
    if isinstance(sigma, Tensor):
        return torch.addcmul(theta, sigma, eps.to(theta.dtype), value=sign, out=out)
    return torch.add(theta, eps, alpha=sign * sigma, out=out)


def unperturbed(sigma: Sigma) -> bool:
    """Whether members have the centre's own weights, and differ by their actions alone.

    Example:
        >>> unperturbed(0.0), unperturbed(torch.zeros(2))
        (True, False)
    """
    return isinstance(sigma, float) and sigma == 0.0


class Centre:
    """The unperturbed parameters, moved by a `torch.optim` optimiser.

    Args:
        target: A module, trained in place, or a vector, copied.
        optimizer: Makes the optimiser from the parameters, as `functools.partial(torch.optim.Adam, lr=0.01)` does. Its
            param groups may carry a `sigma` of their own. Any but LBFGS and SparseAdam; Muon takes matrices alone.
        num_pairs: Mirrored pairs in a generation, 16 by default.
        population_size: Twice `num_pairs`, for those who count members; give one of the two.
        seed: Of the noise.
        scheduler: Makes a learning-rate scheduler from the optimiser; stepped once a generation.
    """

    def __init__(
        self,
        target: nn.Module | Tensor,
        optimizer: OptimizerFactory,
        *,
        num_pairs: int | None = None,
        population_size: int | None = None,
        seed: int = 0,
        scheduler: SchedulerFactory | None = None,
    ) -> None:
        self.num_pairs = resolve_pairs(num_pairs, population_size)
        self.seed = check_seed(seed)
        self.parameters = FlatParameters(as_module(target))
        self.optimizer = check_optimizer(optimizer, self.parameters.masters)
        self.scheduler = scheduler(self.optimizer) if scheduler else None
        self.noise = Noise(self.seed, self.parameters.dim)
        self.noise_sum: NoiseSum = serial_noise_sum(self.noise)
        self.generation = 0
        self.theta = self.parameters.gather()
        self._half_done = False  # a step that an error ended in its middle
        self._ended: Exception | None = None  # why the scheduler cannot go on

    def sigma(self, default: float) -> Sigma:
        """Return `default`, or a vector `(dim,)` if a param group has a `sigma` of its own.

        Raises:
            ValueError: If a sigma is not positive.
        """
        default = check_positive("sigma", default)
        own = {
            id(p): check_positive("sigma", group.get("sigma", default))
            for group in self.optimizer.param_groups
            for p in group["params"]
        }
        values = [own.get(id(p), default) for p in self.parameters.masters]
        if all(value == values[0] for value in values):
            return values[0]
        parts = [torch.full((size,), value) for size, value in zip(self.parameters.sizes, values, strict=True)]
        return torch.cat(parts).to(self.parameters.dtype)

    def step(self, gradient: Tensor) -> dict[str, float]:
        """Let the optimiser climb along `gradient`, shape `(dim,)`, and end the generation.

        Raises:
            NonFiniteError: If the gradient or the result is not finite; the centre stays where it was.
        """
        grad_norm = float(gradient.norm())
        if not math.isfinite(grad_norm):
            raise NonFiniteError("The gradient is not finite; scale the returns down or use a rank-based `shaping`.")
        if self._ended is not None:
            raise ValueError(
                f"`scheduler` cannot go on after generation {self.generation - 1}: {self._ended}"
            ) from self._ended
        before, self._half_done = self.theta, True
        self.parameters.write(before)  # an iteration over members that an exception left unfinished moved the module
        self.parameters.set_grad(gradient)
        del gradient  # a large module's copies add up
        try:
            self.optimizer.step()
        except RuntimeError as error:  # torch refuses a step size beyond float32, in the middle of the parameters
            self.parameters.restore(before)
            raise NonFiniteError(f"The optimiser could not step, {error}; lower the learning rate.") from error
        self.optimizer.zero_grad(set_to_none=True)
        theta = self.parameters.gather()
        norm = float(theta.norm())
        if not math.isfinite(norm):
            self.parameters.restore(before)
            raise NonFiniteError("The update would make parameters non-finite; lower the learning rate.")
        learning_rate = self.optimizer.param_groups[0]["lr"]
        self.theta = theta
        self.parameters.write(theta)
        self.generation += 1
        self._half_done = False
        self._schedule()
        return {
            "es/grad_norm": grad_norm,
            "es/param_norm": norm,
            "es/update_ratio": float((theta - before).norm()) / max(norm, 1e-12),
            "train/learning_rate": float(learning_rate),
        }

    def _schedule(self) -> None:
        """Step the scheduler; one that cannot go on, at its own end, ends the next step, since this one is done."""
        if self.scheduler:
            try:
                self.scheduler.step()
            except Exception as error:  # noqa: BLE001 - a scheduler of the user's own may raise anything
                self._ended = error

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next generation depends on.

        Raises:
            NonFiniteError: If the last step failed in its middle, so that the optimiser's state is not whole.
        """
        if self._half_done:
            raise NonFiniteError("The last step failed in its middle, so the state of the optimiser is not saved.")
        return {
            "generation": self.generation,
            "seed": self.seed,
            "theta": self.theta,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            ValueError: If it belongs to another module or another seed, or one of the two has no scheduler.
        """
        if state["theta"].shape != self.theta.shape:
            raise ValueError(
                f"`theta` has {state['theta'].numel()} parameters in the state but {self.parameters.dim} in the module."
            )
        if state["seed"] != self.seed:
            raise ValueError(f"`seed` must be the one that the state was made with, {state['seed']}, got {self.seed}.")
        if (state["scheduler"] is None) != (self.scheduler is None):
            rule, had = ("left out", "none") if self.scheduler else ("given", "one")
            raise ValueError(f"`scheduler` must be {rule}: the state was saved with {had}.")
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        self.generation = state["generation"]
        self._half_done, self._ended = False, None
        self.move(state["theta"])

    def move(self, theta: Tensor) -> None:
        """Put the centre at `theta`, shape `(dim,)`."""
        self.theta = theta.to(self.parameters.dtype).clone()
        self.parameters.restore(self.theta)


_UNFIT = {
    torch.optim.LBFGS: "it evaluates its function again and again within a step, and a generation gives one gradient",
    torch.optim.SparseAdam: "it takes sparse gradients, and the search's is dense; use Adam",
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
    return optimizer


def resolve_pairs(num_pairs: int | None, population_size: int | None, default: int = 16) -> int:
    """Return the number of mirrored pairs from either way of saying it.

    Raises:
        ValueError: If both are given, or `population_size` is odd.

    Example:
        >>> resolve_pairs(None, 10)
        5
    """
    if population_size is None:
        return check_count("num_pairs", default if num_pairs is None else num_pairs)
    if num_pairs is not None:
        raise ValueError(f"Give `num_pairs` or `population_size`, not both; got {num_pairs} and {population_size}.")
    size = check_count("population_size", population_size, minimum=2)
    if size % 2:
        raise ValueError(f"`population_size` must be even for mirrored pairs, got {size}; use {size + 1}.")
    return size // 2
