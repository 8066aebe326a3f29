"""Trials of lanes: whether they answer as the network itself does."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from torch_es.lanes.protocol import Lanes
from torch_es.lanes.shared import ROWS
from torch_es.search.low_rank import LowRank, Part
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array

_log = logging.getLogger(__name__)

_STEPS = 3  # what two states are after they changed places shows in the third
_FAR = 1e4  # as are the bounds of velocities in CartPole

Make = Callable[[], Lanes]
Draw = Callable[[np.random.Generator, int], Float32Array]  # so many rows


def passes(trial: Callable[[], bool], kind: str) -> bool:
    """Whether lanes of a kind can be made and pass a trial."""
    try:
        passed = trial()
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a user's module raises when it is traced; the next kind is tried
        _log.debug("Lanes are not %s: %s: %s", kind, type(error).__name__, error)
        return False
    if not passed:
        _log.debug("Lanes are not %s: their answers differ from the network's, or depend on the lane.", kind)
    return passed


def answer_as(
    num_lanes: int,
    plain: Lanes,
    make: Make,
    theta: Tensor,
    draw: Draw,
    tolerance: float,
    seen: Callable[[Float32Array], Float32Array] = lambda rows: rows,
) -> bool:
    """Whether both kinds answer alike for perturbed weights, several times in a row so that state would show.

    Args:
        num_lanes: Of both.
        plain: Lanes that are right.
        make: Makes the others.
        theta: The network's weights.
        draw: Draws rows.
        tolerance: Of answers, relative.
        seen: Turns rows into those that the others get.
    """
    generator = np.random.default_rng(0)
    lanes = make()
    for lane in range(num_lanes):
        noise = torch.from_numpy(generator.standard_normal(len(theta), dtype=np.float32))
        for each in (plain, lanes):
            each.write(lane, theta + 0.1 * noise)
    for _ in range(_STEPS):
        rows = draw(generator, num_lanes)
        expected = plain.forward(rows, range(num_lanes)).copy()
        if not _alike(lanes.forward(seen(rows), range(num_lanes)), expected, tolerance):
            return False
    return True


def share_as(parts: tuple[Part, ...], plain: Lanes, make: Make, theta: Tensor, draw: Draw, tolerance: float) -> bool:
    """Whether lanes that share their weights answer as one plain lane, and with the same bits wherever a member stands.

    Args:
        parts: How noise of low rank perturbs the parameters.
        plain: One lane that is right.
        make: Makes the others.
        theta: The network's weights.
        draw: Draws rows.
        tolerance: Of answers, relative.
    """
    generator, noise, weights = np.random.default_rng(0), LowRank(0, 0, len(theta), 0.1, parts), theta.clone()
    lanes, number = make(), ROWS
    for lane in range(number):
        lanes.write(lane, noise.factors(theta, lane))
    steps = [draw(generator, number) for _ in range(_STEPS)]
    answers = [lanes.forward(rows, range(number)).copy() for rows in steps]
    for lane in range(number):
        plain.write(0, noise.member(theta, lane, weights))
        for rows, answer in zip(steps, answers, strict=True):
            if not _alike(answer[lane : lane + 1], plain.forward(rows[lane : lane + 1], range(1)), tolerance):
                return False
    row, expected = steps[0][0], answers[0][0].tobytes()
    for lane in range(1, number):
        lanes.write(lane, noise.factors(theta, 0))
        rows = draw(generator, number)
        rows[lane] = row
        if lanes.forward(rows, range(number))[lane].tobytes() != expected:
            return False
    return True


def check_stands_alone(network: nn.Module, lanes: Lanes, theta: Tensor, rows: Float32Array) -> None:
    """Check that copies of a network do without the original, whose weights nobody perturbs.

    Args:
        network: The original.
        lanes: Copies of it.
        theta: Its weights.
        rows: What they are tried on.

    Raises:
        ValueError: If a copy uses the original's trainable parameters.
    """
    seen = _Seen()
    # what a module raises is told where it plays
    with contextlib.suppress(Exception), seen:
        lanes.write(0, theta)
        lanes.forward(rows, range(1))
    used = [name for name, p in network.named_parameters() if p.requires_grad and id(p) in seen.ids]
    if used:
        raise ValueError(
            f"`policy` ({type(network).__name__}) must be a module whose copies do without it, since each lane runs a "
            f"copy, but a copy used {', '.join(used)} of the original: a hook, a lambda as `forward` or a weak "
            "reference holds the module itself. Make it a method of the module's class."
        )


class _Seen(TorchFunctionMode):
    """Notes which parameters torch functions get."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ids |= {id(x) for x in tree_leaves((args, kwargs)) if isinstance(x, nn.Parameter)}
        return func(*args, **(kwargs or {}))


def normal_rows(size: int) -> Draw:
    """Return what draws rows as a network sees them behind its `ObservationNorm`."""
    return lambda generator, number: 2 * generator.standard_normal((number, size), dtype=np.float32)


def sampled_rows(layout: Layout) -> Draw:
    """Return what draws observations of a space; where its bounds are far away, normal numbers.

    A network may branch on numbers that only these observations have, and an embedding takes no others.
    """
    space, normal = copy.deepcopy(layout.space), normal_rows(layout.size)
    space.seed(0)

    def draw(generator: np.random.Generator, number: int) -> Float32Array:
        rows = np.stack([layout.row(space.sample()) for _ in range(number)]).astype(np.float32)
        return np.where(np.abs(rows) < _FAR, rows, normal(generator, number))

    return draw


def tolerance_of(network: nn.Module) -> float:
    """Return how far answers may differ: rounding in the weights' precision is no difference.

    Example:
        >>> tolerance_of(nn.Linear(3, 2)), tolerance_of(nn.Linear(3, 2).half())
        (0.001, 0.015625)
    """
    return max(1e-3, *(16 * torch.finfo(p.dtype).eps for p in network.parameters() if p.is_floating_point()))


def _alike(answer: Float32Array, expected: Float32Array, tolerance: float) -> bool:
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
    return np.allclose(answer, expected, rtol=tolerance, atol=0.1 * tolerance * largest, equal_nan=True)
