"""What a strategy is: it asks for a population to be evaluated and is told the outcome."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.search.parameters import FlatParameters, Vector
from torch_es.search.perturbation import Perturbation, Summation
from torch_es.types import Float64Array

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]

_SHAPE = "`returns` must have shape (num_pairs, 2), or be flat with one return for each member, got {}."


class Outcome(NamedTuple):
    """What the members of a generation achieved, in their order.

    Attributes:
        fitness: What the strategy maximises, `(members,)`; higher is better, NaN for a member that failed.
        returns: Returns as the environment pays them, `(members, episodes)`; None if there are no episodes.
        lengths: Steps, `(members, episodes)`, or None.
        behaviours: What the user's `behaviour` function returned for each member, `(members, k)`, or None.
    """

    fitness: Float64Array
    returns: Float64Array | None = None
    lengths: np.ndarray[Any, Any] | None = None
    behaviours: Float64Array | None = None


def as_outcome(told: object) -> Outcome:
    """Return an outcome unchanged, or make one of the members' fitnesses, flat or `(pairs, 2)`.

    Raises:
        ValueError: If there are none, or they have another shape.

    Example:
        >>> as_outcome([[1.0, 2.0], [3.0, 4.0]]).fitness
        array([1., 2., 3., 4.])
    """
    if isinstance(told, Outcome):
        return told
    try:
        if isinstance(told, Tensor):
            told = told.detach().cpu().double()
        if isinstance(told, (list, tuple)) and not any(isinstance(value, (list, tuple)) for value in told):
            told = [as_number(value) for value in told]
        numbers = np.asarray(told)
        if numbers.dtype.kind not in "biuf":  # None would become NaN, and text a number
            raise TypeError
        fitness = numbers.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`tell` must get numbers, got {told!r}.") from error
    if not fitness.size or not (fitness.ndim == 1 or (fitness.ndim == 2 and fitness.shape[1] == 2)):
        raise ValueError(_SHAPE.format(fitness.shape))
    return Outcome(fitness.ravel())


def as_number(fitness: Any) -> float:
    """Return what a `fitness_fn` returned as a float.

    Raises:
        TypeError: If it is not a number.

    Example:
        >>> as_number(torch.tensor(0.5))
        0.5
    """
    try:
        if isinstance(fitness, str | bytes):  # float reads numbers in texts
            raise TypeError
        return float(fitness.detach() if isinstance(fitness, Tensor) else fitness)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`fitness_fn` must return a number, got {fitness!r}.") from error


def as_pairs(fitness: Float64Array) -> Float64Array:
    """Return the fitness of members `(2 * num_pairs,)` as that of mirrored pairs, `(num_pairs, 2)`.

    Raises:
        ValueError: If their number is odd.

    Example:
        >>> as_pairs(np.arange(4.0))
        array([[0., 1.],
               [2., 3.]])
    """
    if fitness.size % 2:
        raise ValueError(_SHAPE.format(fitness.shape))
    return fitness.reshape(-1, 2)


class Population:
    """The members of one generation.

    Iterating yields each member in order: a vector `(dim,)` if the strategy searches a vector; otherwise the module
    itself with the member's weights written into it. When the iteration ends, the module is back at the centre.

    If the loop's body raises, the module stays perturbed until Python frees the iterator, which the traceback keeps
    alive. `with contextlib.closing(iter(strategy.ask())) as members` puts it back at once; so does `tell`.

    Args:
        generation: Its number.
        perturbation: Makes the members.
        centre: Returns the present centre, `(dim,)`.
        parameters: Of the module that is searched.
        num_units: Units to evaluate, unless the trainer's quota asks for more.
        unit_size: Members of a unit. They are played side by side, in the same world: 2 for mirrored pairs.
    """

    def __init__(
        self,
        generation: int,
        perturbation: Perturbation,
        centre: Callable[[], Tensor],
        parameters: FlatParameters,
        num_units: int,
        unit_size: int = 2,
    ) -> None:
        self.generation = generation
        self.perturbation = perturbation
        self.theta = centre()
        self.num_units, self.unit_size = num_units, unit_size
        self._parameters, self._centre = parameters, centre

    def __len__(self) -> int:
        return self.num_units * self.unit_size

    def member(self, number: int) -> Tensor:
        """Return the weights of a member, `(dim,)`."""
        return self.perturbation.member(self.theta, number, torch.empty_like(self.theta))

    def __iter__(self) -> Generator[Any, None, None]:
        if isinstance(self._parameters.module, Vector):
            yield from map(self.member, range(len(self)))
            return
        try:
            for number in range(len(self)):
                write_member(self._parameters, self.theta, self.perturbation, number)
                yield self._parameters.module
        finally:
            if not sys.is_finalizing():  # Python ends with the traceback that held this: torch would abort it
                self._parameters.write_module(self._centre())  # which `tell` may have moved meanwhile


def write_member(parameters: FlatParameters, theta: Tensor, perturbation: Perturbation, member: int) -> None:
    """Write a member's weights into the module; those of a large one without a vector of them."""
    part = getattr(perturbation, "part", None)
    if parameters.by_parts and part is not None:
        parameters.write_parts(theta, lambda own, start, out: part(own, member, start, out))
    else:
        parameters.write_module(perturbation.member(theta, member, torch.empty_like(theta)))


class Strategy(Protocol):
    """Asks for a population and is told its outcome; knows no environment, no process and no configuration.

    Attributes:
        parameters: Of the module that is searched.
        seed: All noise follows from it.
        generation: The number of the next one.
        theta: The centre: the weights to evaluate, to act with and to save, `(dim,)`.
    """

    parameters: FlatParameters
    seed: int
    generation: int
    theta: Tensor

    def ask(self) -> Population:
        """Return the members to evaluate; asking twice gives the same ones."""
        ...

    def tell(self, outcome: Any, summation: Summation | None = None) -> dict[str, float]:
        """Learn from a generation, and end it.

        Args:
            outcome: An `Outcome`, or just the members' fitnesses, flat or `(num_pairs, 2)`.
            summation: Who computes sums of the noise; this process by default.

        Returns:
            Metrics of the step.
        """
        ...

    def move(self, theta: Tensor) -> None:
        """Put the centre at `theta`, `(dim,)`, and write it into the module."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next generation depends on, as tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        ...
