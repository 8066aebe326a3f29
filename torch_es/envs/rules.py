"""The rules of an episode: how long it may be, which world it is played in, and what it is worth to the strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from torch_es.checks import check_choice, check_count
from torch_es.seeding import derive_seed
from torch_es.types import EpisodeResult, Task

SHARED_BY = ("pair", "generation", "fixed", "independent")


class _Adaptive(NamedTuple):
    """The rule of the paper's released code: a limit that grows when enough episodes hit it."""

    limit: int
    threshold: float
    ratio: float


@dataclass(frozen=True)
class EpisodeRules:
    """What holds for every episode of a run.

    Args:
        max_steps: Cap of an episode's length, besides the environment's own, so that no long episode holds up a
            generation. A number caps the centre's episodes too; the others cap the members' only, and stay as they are
            while a generation runs. `members:N` is always N. `mean:R` is R times the mean length in the generation
            before (Salimans et al. 2017, section 2.1, with R = 2). `adaptive:LIMIT,THRESHOLD,RATIO` is LIMIT at first,
            times RATIO after each generation in which at least the share THRESHOLD of the episodes hit it, as their
            released code does.
        reward_shift: Subtracted from each step's reward in what the strategy sees, so that it is not paid for merely
            staying alive (Mania et al. 2018, arXiv:1803.07055: 1 for Hopper and Walker2d, 5 for Humanoid). Returns are
            reported as the environment gives them.
        seeds: Who plays in the same world. `pair`: the two members of a pair, so that their returns differ by the sign
            alone; `generation`: all members of a generation; `fixed`: all members of the run; `independent`: nobody.
        per_member: Episodes that a member plays; its fitness is their mean.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    Example:
        >>> EpisodeRules(max_steps="mean:2").next_cap(None, [EpisodeResult(Task(0, 0, 1), 1.0, 30, False, None)])
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

    def next_cap(self, cap: int | None, episodes: Sequence[EpisodeResult]) -> int | None:
        """Return the cap of the next generation, after these episodes under `cap`."""
        parsed = self._parsed()
        if isinstance(parsed, _Adaptive):
            hit = np.mean([result.truncated and result.length == cap for result in episodes])
            return max(1 + (cap or 0), int(parsed.ratio * (cap or 0))) if hit >= parsed.threshold else cap
        if parsed is not None:
            return max(1, int(parsed * np.mean([result.length for result in episodes])))
        return cap

    def environment_seed(self, seed: int, task: Task) -> int:
        """Return the seed of the task's environment; the centre's episodes have worlds of their own.

        Example:
            >>> rules = EpisodeRules(seeds="pair")
            >>> rules.environment_seed(0, Task(3, 1, +1)) == rules.environment_seed(0, Task(3, 1, -1))
            True
        """
        generation, pair, sign, episode = task
        if sign == 0:
            return derive_seed("evaluation", seed, generation, pair, episode)
        shared = {
            "pair": (generation, pair),
            "generation": (generation,),
            "fixed": (),
            "independent": (generation, pair, sign),
        }
        return derive_seed("environment", seed, *shared[self.seeds], episode)

    def task_name(self, seed: int, task: Task) -> str:
        """Say which episode it is, and in which environment.

        Example:
            >>> EpisodeRules().task_name(0, Task(3, 1, -1))
            'generation 3 pair 1 sign -1 (environment seed 1010823109)'
        """
        where = f"generation {task.generation} pair {task.pair} sign {task.sign:+d}"
        return f"{where} (environment seed {self.environment_seed(seed, task)})"

    def fitness(self, episodes: Sequence[EpisodeResult]) -> float:
        """Return what a member's episodes are worth to the strategy."""
        return float(np.mean([result.return_ - self.reward_shift * result.length for result in episodes]))
