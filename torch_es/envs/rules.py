"""Rules of episodes: how long they may be, which world they are played in, and what they are worth to the strategy."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from torch_es.checks import check_choice, check_count, described
from torch_es.envs.cap import Cap, make_cap
from torch_es.seeding import derive_seed
from torch_es.types import CENTRE, Float64Array, Task

SHARED_BY = ("pair", "generation", "fixed", "independent")


@dataclass(frozen=True)
class EpisodeRules:
    """Rules for every episode of a run.

    Args:
        max_steps: A cap on episode length, besides the environment's own, so that a long episode does not hold up a
            generation. A number caps every episode. The other forms cap only members' episodes, and do not change
            while a generation runs. `members:N` is always N. `mean:R` is R times the mean length in the last generation
            (Salimans et al. 2017, section 2.1, with R = 2). `adaptive:LIMIT,THRESHOLD,RATIO` starts at LIMIT and is
            multiplied by RATIO after each generation in which at least a share THRESHOLD of the episodes hit it, as
            their released code does. A `torch_es.envs.Cap` of your own is taken too.
        reward_shift: Subtracted from each step's reward before the strategy sees it, so that it does not count merely
            staying alive (Mania et al. 2018, arXiv:1803.07055: 1 for Hopper and Walker2d, 5 for Humanoid). An action
            that `ActionRepeat` takes n times counts as n steps. Reported returns do not change.
        seeds: Which members play in the same world. `pair`: the two of a pair, so that their returns differ only by the
            sign of their noise; `generation`: all of a generation; `fixed`: all of the run; `independent`: none.
        per_member: Episodes that each member plays; its fitness is their mean.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    Example:
        >>> EpisodeRules(max_steps="mean:2").next_cap(None, np.array([30, 30]), np.array([False, False]))
        60
    """

    max_steps: int | str | Cap | None = None
    reward_shift: float = 0.0
    seeds: str = "pair"
    per_member: int = 1

    def __post_init__(self) -> None:
        check_choice("seeds", self.seeds, SHARED_BY)
        object.__setattr__(self, "per_member", check_count("per_member", self.per_member))
        if isinstance(self.reward_shift, bool) or not isinstance(self.reward_shift, Real):
            raise TypeError(f"`reward_shift` must be a number, got {described(self.reward_shift)}.")
        if not np.isfinite(float(self.reward_shift)):
            raise ValueError(f"`reward_shift` must be a finite number, got {self.reward_shift}.")
        if isinstance(self.max_steps, str):
            make_cap(self.max_steps)
        elif self.max_steps is not None and not hasattr(self.max_steps, "following"):
            object.__setattr__(self, "max_steps", check_count("max_steps", self.max_steps))

    @property
    def _cap(self) -> Cap | None:
        if isinstance(self.max_steps, str):
            return make_cap(self.max_steps)
        return None if isinstance(self.max_steps, (int, type(None))) else self.max_steps

    @property
    def fixed_cap(self) -> int | None:
        """The cap of every episode, the centre's too."""
        return self.max_steps if isinstance(self.max_steps, int) else None

    @property
    def first_cap(self) -> int | None:
        """The cap of the members' episodes in the first generation."""
        return self.fixed_cap if self._cap is None else self._cap.first

    def next_cap(self, cap: int | None, lengths: npt.NDArray[Any], truncated: npt.NDArray[np.bool_]) -> int | None:
        """Return the cap of the members' episodes in the next generation; see `Cap.following`."""
        return cap if self._cap is None else self._cap.following(cap, lengths, truncated)

    def world(self, unit: int, member: int) -> int:
        """Return in which of a generation's worlds a member plays.

        Args:
            unit: The pair that the member is of, or its own number where members come alone.
            member: The member.
        """
        return {"pair": unit, "independent": member}.get(self.seeds, 0)

    def environment_seed(self, seed: int, task: Task) -> int:
        """Return the seed of the task's environment; the centre's episodes have worlds of their own.

        Example:
            >>> rules = EpisodeRules(seeds="pair")
            >>> rules.environment_seed(0, Task(3, 2, world=1)) == rules.environment_seed(0, Task(3, 3, world=1))
            True
        """
        if task.member == CENTRE:
            return derive_seed("evaluation", seed, task.generation, CENTRE, task.episode)
        shared = {"fixed": (), "generation": (task.generation,)}.get(self.seeds, (task.generation, task.world))
        return derive_seed("environment", seed, *shared, task.episode)

    def task_name(self, seed: int, task: Task) -> str:
        """Say which episode it is, and in which environment.

        Example:
            >>> EpisodeRules().task_name(0, Task(3, 2, world=1))
            'generation 3 member 2 (environment seed 1010823109)'
        """
        who = "centre" if task.member == CENTRE else f"member {task.member}"
        return f"generation {task.generation} {who} (environment seed {self.environment_seed(seed, task)})"

    def fitness(self, returns: Float64Array, lengths: npt.NDArray[Any]) -> Float64Array:
        """Return what members are worth to the strategy, `(members,)`, from `(members, episodes)` of each, in steps."""
        fitness: Float64Array = np.mean(returns - self.reward_shift * lengths, axis=-1)
        return fitness
