"""The words of design.md as data: what is asked of an evaluator, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Float64Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Metrics = Mapping[str, float]


class Task(NamedTuple):
    """One episode to play: seeds follow from these numbers and the run's seed, so no vector travels.

    Attributes:
        generation: Which generation's noise and environment seeds to use.
        pair: Index of the mirrored pair, or -1 for the centre.
        sign: +1 or -1 for a perturbed member, 0 for the centre.
        episode: Which of the member's episodes this is, from 0.
    """

    generation: int
    pair: int
    sign: int
    episode: int = 0


class EpisodeResult(NamedTuple):
    """What one played task returns.

    Attributes:
        task: The task that was played.
        return_: Sum of the raw rewards, never shaped.
        length: Steps taken.
        truncated: Whether a time limit, not the environment, ended it; else it is terminated.
        moments: Float64 array `(2 * observation_size,)`: sum and sum of squares of the observations relative to the
            generation's frozen mean; None where nothing is collected.
        score: How the log-probability of the noisy actions changes with the weights, `(dim,)`; only where actions alone
            are searched (`sigma = 0`).
    """

    task: Task
    return_: float
    length: int
    truncated: bool
    moments: Float64Array | None
    score: torch.Tensor | None = None


class Snapshot(NamedTuple):
    """All that an evaluation of a generation depends on, besides seeds; frozen while the generation runs.

    Attributes:
        theta: The centre, flat, shape `(dim,)`.
        sigma: Standard deviation of the perturbation: a number, or one for each parameter `(dim,)`.
        mean: Observation mean `(observation_size,)`, or None without normalisation.
        std: Observation standard deviation, floored, `(observation_size,)`, or None.
        max_steps: Cap of the members' episodes, or None.
    """

    theta: torch.Tensor
    sigma: float | torch.Tensor
    mean: Float64Array | None = None
    std: Float64Array | None = None
    max_steps: int | None = None
