"""What is asked of an evaluator and what it answers, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Float64Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Metrics = Mapping[str, float]

CENTRE = -1  # the member of a task that plays the unperturbed weights


class Task(NamedTuple):
    """One episode to play. All its randomness follows from these numbers and the run's seed, so no vector travels.

    Attributes:
        generation: Which generation's noise and environment seeds to use.
        member: Which member plays, from 0; -1 for the centre.
        episode: Which of the member's episodes this is, from 0.
        world: What the environment's seed follows from: members with the same world play in the same one.
    """

    generation: int
    member: int
    episode: int = 0
    world: int = 0


class EpisodeResult(NamedTuple):
    """What one played task returns.

    Attributes:
        task: The task that was played.
        return_: Sum of the raw rewards, never shaped.
        length: Steps taken.
        truncated: Whether a time limit ended the episode; otherwise the environment terminated it.
        moments: Float64 array `(2 * observation_size,)`: sum and sum of squares of the observations relative to the
            generation's frozen mean; None where nothing is collected.
        score: How the log-probability of the noisy actions changes with the weights, `(dim,)`; only where the search is
            by actions alone (`sigma = 0`).
        behaviour: What the user's `behaviour` function says of the episode's end, `(k,)`, or None.
    """

    task: Task
    return_: float
    length: int
    truncated: bool
    moments: Float64Array | None
    score: torch.Tensor | None = None
    behaviour: Float64Array | None = None
