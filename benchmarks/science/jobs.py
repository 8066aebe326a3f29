"""A job: one arm of an experiment, on one task, with one seed, and the file of its result."""

from __future__ import annotations

import dataclasses
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock
from machine import RESULTS, describe
from settings import digest

_TOP = RESULTS.parent.parent
Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where results, unfinished work and pages are.

    Args:
        results: A file for each finished job.
        runs: What an interrupted job continues from.
        docs: The page and its figures.
    """

    results: Path = RESULTS / "science"
    runs: Path = _TOP / "runs" / "science"
    docs: Path = _TOP / "docs"

    @classmethod
    def inside(cls, folder: Path) -> Place:
        """Return a place for a trial, with nothing of it in the repository."""
        return cls(*(folder / field.name for field in dataclasses.fields(cls)))


class Work(Protocol):
    """What the job of an arm does."""

    def settings(self) -> dict[str, Any]:
        """Return everything that the result depends on besides the seed."""

    def run(self, job: Job, place: Place) -> Result:
        """Do it, or continue it, and return what to write."""

    def enough(self, job: Job, result: Result, place: Place) -> bool:
        """Return whether an earlier result of the same settings went far enough."""

    def tiny(self) -> Work:
        """Return the same with the smallest budget that runs every line of it."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One arm of an experiment, on one task, with one seed.

    Args:
        experiment: Its name.
        arm: What differs from the other jobs of the experiment.
        task: What is learned.
        seed: All randomness follows from it.
        work: What is to be done.
        beside: Jobs whose cost in core-seconds is the budget of this one.
    """

    experiment: str
    arm: str
    task: str
    seed: int
    work: Work
    beside: tuple[Job, ...] = ()

    @property
    def name(self) -> str:
        """The job on the command line, and its file."""
        return f"{self.experiment}/{self.arm}-{self.task}-{self.seed}"

    @property
    def hash(self) -> str:
        """The hash of the settings, which the result carries."""
        return digest(self.work.settings())

    def file(self, place: Place) -> Path:
        """Return the file of its result."""
        return place.results / f"{self.name}.json"

    def folder(self, place: Place) -> Path:
        """Return where it saves itself."""
        return place.runs / f"{self.name}-{self.hash}"

    def result(self, place: Place) -> Result | None:
        """Return its result; None if there is none, or one of other settings."""
        path = self.file(place)
        found: Result | None = json.loads(path.read_text()) if path.is_file() else None
        return found if found and found["settings"] == self.hash else None

    def done(self, place: Place) -> bool:
        """Return whether there is a result that went far enough."""
        found = self.result(place)
        return found is not None and self.work.enough(self, found, place)

    def run(self, place: Place) -> None:
        """Do it, or continue it, and write its result."""
        folder, path = self.folder(place), self.file(place)
        folder.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # a process whose parent was killed may still be at it
            if self.done(place):
                return
            about = {"job": self.name, "settings": self.hash}
            result = {**about, **self.work.run(self, place), "date": f"{datetime.now(timezone.utc):%Y-%m-%d}"}
            staging = path.with_suffix(".tmp")
            staging.write_text(json.dumps({**result, "machine": describe()}) + "\n")
            os.replace(staging, path)
