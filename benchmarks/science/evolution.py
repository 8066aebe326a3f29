"""ES: the trainer of a command line `torch-es WORDS`, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from settings import composed, decisive

from science.environments import played
from science.jobs import Job, Place, Result
from science.training import Budget, train
from torch_es.cli import config
from torch_es.runs import checkpoint


@dataclass(frozen=True)
class Evolution:
    """What `torch-es WORDS` trains.

    Args:
        words: The command line; settings tuned for its task are part of it.
        steps: Budget of environment steps; None is that of the words.
        repeat: Steps of the environment for which an action holds; they all count against the budget.
        delayed: Whether the reward comes at the end of an episode.
        points: Of the curve, and some more at its beginning.
        episodes: Of each evaluation.
    """

    words: Sequence[str]
    steps: int | None = None
    repeat: int = 1
    delayed: bool = False
    points: int = 50
    episodes: int = 10

    @property
    def told(self) -> tuple[str, ...]:
        """All words."""
        return (*self.words, *([f"env.action_repeat={self.repeat}"] if self.repeat > 1 else []))

    @cached_property
    def budget(self) -> Budget:
        """Steps, and how often the curve has points."""
        steps = (self.steps or composed(*self.told)["total_timesteps"]) // self.repeat
        return Budget(steps, 0, max(1, steps // self.points), self.episodes)

    def settings(self) -> dict[str, Any]:
        """Return everything that the result depends on besides the seed."""
        return {"algorithm": "es", **decisive(*self.told), "steps": self.budget.steps, "delayed": self.delayed}

    def run(self, job: Job, place: Place) -> Result:
        """Train, or continue."""
        return train(Evolved(self, job.seed), self.budget, job.folder(place))

    def enough(self, job: Job, result: Result, place: Place) -> bool:
        """Return whether the budget is spent."""
        return bool(result["steps"] >= self.budget.steps)

    def tiny(self) -> Evolution:
        """Return the same for a generation or two."""
        return replace(self, steps=200 * self.repeat, points=1, episodes=1)


class Evolved:
    """A trainer that is trained one stretch at a time."""

    def __init__(self, work: Evolution, seed: int) -> None:
        words = (*work.told, f"seed={seed}", "evaluator=serial", "eval_every=0")
        settings = composed(*words)
        factory = played(settings["env"]["id"], delayed=True) if work.delayed else None
        self.es = config.build(settings, factory)

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        return self.es.trainer.total_timesteps

    def advance(self, steps: int) -> None:
        """Learn until there were at least so many steps."""
        self.es.learn(steps, reset_num_timesteps=False)

    def evaluate(self, episodes: int) -> float:
        """Return the centre's mean return."""
        return float(np.mean([episode.return_ for episode in self.es.evaluate(episodes)]))

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        self.es.save(folder / "es")

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint, with the same bits as without a break."""
        self.es.restore(checkpoint.load(folder / "es"))
