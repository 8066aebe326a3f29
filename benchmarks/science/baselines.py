"""TRPO, PPO, A2C, SAC and ARS of Stable-Baselines3, with the settings that rl-zoo has for each task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from science.jobs import Job, Place, Result
from science.training import Budget, train


@cache
def rl_zoo() -> dict[str, Any]:
    """Return the settings of each algorithm and environment."""
    loaded: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "rl_zoo.yaml").read_text())
    return loaded


@dataclass(frozen=True)
class Baseline:
    """What an algorithm of reinforcement learning does with rl-zoo's settings.

    Args:
        algorithm: trpo, ppo, a2c, sac or ars.
        env: A Gymnasium id.
        steps: Environment steps to take at least.
        repeat: Steps of the environment for which an action holds; they all count against `steps`.
        delayed: Whether the reward comes at the end of an episode.
        core_seconds: To take at least; what the jobs took beside which this one stands counts too.
        every: Steps between two points of the curve; the first ones are closer together.
        episodes: Of each evaluation.
    """

    algorithm: str
    env: str
    steps: int = 0
    repeat: int = 1
    delayed: bool = False
    core_seconds: float = 0.0
    every: int = 20_000
    episodes: int = 10

    def settings(self) -> dict[str, Any]:
        """Return everything that the result depends on besides the seed."""
        own = {name: getattr(self, name) for name in ("algorithm", "env", "steps", "repeat", "delayed", "every")}
        return {**own, "hyperparameters": self.hyperparameters}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Those of rl-zoo for the task."""
        found: dict[str, Any] = rl_zoo()[self.algorithm][self.env]
        return found

    def budget(self, job: Job, place: Place) -> Budget:
        """Return steps and core-seconds, the latter also from the results of the jobs beside which this one stands.

        Raises:
            LookupError: If one of them has no result yet.
        """
        costs = [self.core_seconds]
        for other in job.beside:
            if not other.done(place):
                raise LookupError(f"{other.name} has to run first: its cost is the budget of {job.name}.")
            costs.append((other.result(place) or {})["core_seconds"])
        return Budget(self.steps // self.repeat, max(costs), self.every, self.episodes)

    def run(self, job: Job, place: Place) -> Result:
        """Train, or continue."""
        from science.learned import Learned  # the page is written without sb3-contrib

        return train(Learned(self, job.seed), self.budget(job, place), job.folder(place))

    def enough(self, job: Job, result: Result, place: Place) -> bool:
        """Return whether the budget is spent; one that is not known yet does not make a result worthless."""
        try:
            budget = self.budget(job, place)
        except LookupError:
            return True
        return bool(result["steps"] >= budget.steps and result["core_seconds"] >= budget.core_seconds)

    def tiny(self) -> Baseline:
        """Return the same for one update."""
        return replace(self, steps=200 * self.repeat, core_seconds=0.0, every=200, episodes=1)
