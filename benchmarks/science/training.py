"""The loop of every job that trains: learn up to the next point of the curve, evaluate without noise, save.

A point of the curve is [environment steps, core-seconds, wall-clock seconds, mean return]. The first points are close
together, since some tasks are learned at once. Only learning counts; what evaluations and saves take does not. A save
is the learner and the curve together, so what was played after the last save of a job that was cut counts as never
played.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

SAVE_EVERY = 120.0  # seconds
Point = list[float]


class Learner(Protocol):
    """Something that learns, one stretch at a time."""

    @property
    def steps(self) -> int:
        """Environment steps learned from so far."""

    def advance(self, steps: int) -> None:
        """Learn until there were at least so many steps."""

    def evaluate(self, episodes: int) -> float:
        """Return the mean return of noise-free episodes, which nothing is learned from."""

    def save(self, folder: Path) -> None:
        """Write all that `load` needs into a folder."""

    def load(self, folder: Path) -> None:
        """Continue from what `save` wrote."""


class Budget(NamedTuple):
    """When a job is over: after so many steps and core-seconds, whichever comes last."""

    steps: int
    core_seconds: float
    every: int  # steps between two points of the curve at most
    episodes: int = 10  # of each evaluation


def train(learner: Learner, budget: Budget, folder: Path) -> dict[str, Any]:
    """Train up to the budget, from the last save in `folder` if there is one; return the curve and where it ended."""
    curve = _continued(learner, folder) or [[0, 0.0, 0.0, learner.evaluate(budget.episodes)]]
    saved = time.monotonic()
    while learner.steps < budget.steps or curve[-1][1] < budget.core_seconds:
        curve.append(_point(learner, curve[-1], budget))
        over = learner.steps >= budget.steps and curve[-1][1] >= budget.core_seconds
        if over or time.monotonic() - saved > SAVE_EVERY:
            _save(learner, curve, folder)
            saved = time.monotonic()
    steps, core, wall, last = curve[-1]
    rounded = [[int(p[0]), *(round(value, 4) for value in p[1:])] for p in curve]
    return {
        "return": last, "steps": int(steps), "core_seconds": round(core, 1), "wall_seconds": round(wall, 1),
        "curve": rounded,
    }  # fmt: skip


def _point(learner: Learner, last: Point, budget: Budget) -> Point:
    core, wall = time.process_time(), time.perf_counter()
    learner.advance(learner.steps + min(budget.every, max(1, budget.every // 50, learner.steps // 4)))
    spent = [last[1] + time.process_time() - core, last[2] + time.perf_counter() - wall]
    return [learner.steps, *spent, learner.evaluate(budget.episodes)]


def _saves(folder: Path) -> list[Path]:
    return sorted(folder.glob("save-*"))


def _continued(learner: Learner, folder: Path) -> list[Point]:
    """Return the curve of the last save, and let the learner continue from it; nothing if there is none."""
    saves = _saves(folder)
    if not saves:
        return []
    learner.load(saves[-1])
    curve: list[Point] = json.loads((saves[-1] / "curve.json").read_text())
    return curve


def _save(learner: Learner, curve: list[Point], folder: Path) -> None:
    """Write a save that is whole or absent, and remove the one before."""
    staging = folder / "unfinished"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    learner.save(staging)
    (staging / "curve.json").write_text(json.dumps(curve))
    os.replace(staging, folder / f"save-{int(curve[-1][0]):012}")
    for older in _saves(folder)[:-1]:
        shutil.rmtree(older)
