"""Rules of episodes: how long they may be, which world they are played in, and what they are worth to the strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from torch_es.checks import check_choice, check_count
from torch_es.seeding import derive_seed
from torch_es.types import CENTRE, Float64Array, Task

SHARED_BY = ("pair", "generation", "fixed", "independent")


class _Adaptive(NamedTuple):
    """The rule of the paper's released code: a limit that grows when enough episodes hit it."""

    limit: int
    threshold: float
    ratio: float


@dataclass(frozen=True)
class EpisodeRules:
    """Rules for every episode of a run.

    Args:
        max_steps: A cap on episode length, besides the environment's own, so that a long episode does not hold up a
            generation. A number caps every episode. The other forms cap only members' episodes, and do not change
            while a generation runs. `members:N` is always N. `mean:R` is R times the mean length in the last generation
            (Salimans et al. 2017, section 2.1, with R = 2). `adaptive:LIMIT,THRESHOLD,RATIO` starts at LIMIT and is
            multiplied by RATIO after each generation in which at least a share THRESHOLD of the episodes hit it, as
            their released code does.
        reward_shift: Subtracted from each step's reward before the strategy sees it, so that it does not count merely
            staying alive (Mania et al. 2018, arXiv:1803.07055: 1 for Hopper and Walker2d, 5 for Humanoid). Reported
            returns do not change.
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

    max_steps: int | str | None = None
    reward_shift: float = 0.0
    seeds: str = "pair"
    per_member: int = 1

    def __post_init__(self) -> None:
        check_choice("seeds", self.seeds, SHARED_BY)
        check_count("per_member", self.per_member)
        if isinstance(self.reward_shift, bool) or not np.isfinite(self.reward_shift):
            raise ValueError(f"`reward_shift` must be a finite number, got {self.reward_shift}.")
        if isinstance(self.max_steps, str):
            self._parsed()
        elif self.max_steps is not None:
            check_count("max_steps", self.max_steps)

    def _parsed(self) -> float | _Adaptive | None:
        """Return R of `mean:R`, or the numbers of `adaptive:...` or `members:N`; None without such a rule."""
        if not isinstance(self.max_steps, str):
            return None
        kind, _, numbers = self.max_steps.partition(":")
        try:
            values = [float(number) for number in numbers.split(",")]
            if kind == "mean" and len(values) == 1 and values[0] > 1:
                return values[0]
            if kind == "members" and len(values) == 1 and values[0] >= 1:
                return _Adaptive(int(values[0]), threshold=np.inf, ratio=1.0)  # a share that is never reached
            if kind == "adaptive":
                limit, threshold, ratio = values
                if limit >= 1 and 0 < threshold <= 1 and ratio > 1:
                    return _Adaptive(int(limit), threshold, ratio)
        except ValueError:
            pass
        raise ValueError(
            "`max_steps` must be a number, members:N, mean:R with R above 1, or adaptive:LIMIT,THRESHOLD,RATIO with a "
            f"limit of at least 1, a threshold in (0, 1] and a ratio above 1; got {self.max_steps!r}."
        )

    @property
    def fixed_cap(self) -> int | None:
        """The cap of every episode, the centre's too."""
        return None if isinstance(self.max_steps, str) else self.max_steps

    @property
    def first_cap(self) -> int | None:
        """The cap of the members' episodes in the first generation."""
        parsed = self._parsed()
        return parsed.limit if isinstance(parsed, _Adaptive) else self.fixed_cap

    def next_cap(self, cap: int | None, lengths: npt.NDArray[Any], truncated: npt.NDArray[np.bool_]) -> int | None:
        """Return the cap of the next generation.

        Args:
            cap: Of the generation just played.
            lengths: Of its members' episodes.
            truncated: Which of these a time limit ended.
        """
        parsed = self._parsed()
        if isinstance(parsed, _Adaptive):
            hit = np.mean(truncated & (lengths == cap))
            return max(1 + (cap or 0), int(parsed.ratio * (cap or 0))) if hit >= parsed.threshold else cap
        return cap if parsed is None else max(1, int(parsed * np.mean(lengths)))

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
        """Return what members are worth to the strategy, `(members,)`, from `(members, episodes)` of each."""
        fitness: Float64Array = np.mean(returns - self.reward_shift * lengths, axis=-1)
        return fitness
