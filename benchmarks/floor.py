"""What Humanoid's physics leaves of a step for a 256-256 network: the floor under the share that training can reach.

    .venv/bin/python benchmarks/floor.py

Two processes side by side, as in training, on processor time. Nothing but physics and forwards: no noise, no
statistics, no bookkeeping. `lanes`: each lane has weights of its own, as in training. `pairs`: the two members of a
mirrored pair stand side by side and share theta and eps, y = theta x +- sigma (eps x), so that fewer weights are read.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from statistics import mean, median

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from torch_es import mlp
from torch_es.envs import bare
from torch_es.lanes.matmul import MatmulLanes
from torch_es.search.parameters import FlatParameters

SIZES = ((256, 348), (256, 256), (17, 256))
STEPS, EPISODES, ROUNDS = 16, 24, 9


def lanes(count: int) -> Callable[[], object]:
    """Return the forward of `count` members, each with its own weights."""
    network = mlp(348, 17, hidden=(256, 256), seed=0)
    stacked = MatmulLanes(network, count)
    for lane in range(count):
        stacked.write(lane, FlatParameters(network).read_masters())
    rows = np.ones((count, 348), np.float32)
    return lambda: stacked.forward(rows, range(count))


def pairs(count: int) -> Callable[[], object]:
    """Return the forward of `count` mirrored pairs: theta is read once for all of them, eps once for a pair."""
    rng = np.random.default_rng(0)
    theta = [rng.standard_normal(size, dtype=np.float32) / 16 for size in SIZES]
    eps = [rng.standard_normal((count, *size), dtype=np.float32) for size in SIZES]
    sigma = np.array([0.02, -0.02], np.float32)

    def forward() -> object:
        x = np.ones((count, 348, 2), np.float32)
        for weights, noise in zip(theta, eps, strict=True):
            x = np.tanh(np.matmul(weights, x) + sigma * np.matmul(noise, x))
        return x

    return forward


@torch.inference_mode()
def measure(_: int) -> dict[str, tuple[float, float]]:
    """Return microseconds a step of physics, and of the forward between the steps, for each case."""
    envs = [bare(gym.make("Humanoid-v5"))[0] for _ in range(8)]
    actions = list(np.random.default_rng(0).uniform(-0.1, 0.1, (STEPS, 17)).astype(np.float32))

    def play(count: int, forward: Callable[[], object]) -> tuple[float, float]:
        physics = between = 0.0
        for first in range(0, EPISODES, count):
            for lane in range(count):
                envs[lane].reset(seed=first + lane)
            for action in actions:
                start = time.thread_time()
                forward()
                middle = time.thread_time()
                for lane in range(count):
                    envs[lane].step(action)
                between += middle - start
                physics += time.thread_time() - middle
        steps = STEPS * len(range(0, EPISODES, count)) * count
        return 1e6 * physics / steps, 1e6 * between / steps

    cases = {"physics alone": (1, lambda: None)}
    cases |= {f"lanes {count}": (count, lanes(count)) for count in (1, 2, 4, 6)}
    cases |= {f"pairs {count}": (2 * count, pairs(count)) for count in (1, 2, 4)}
    measured = [{name: play(*case) for name, case in cases.items()} for _ in range(ROUNDS)]
    return {name: (median(m[name][0] for m in measured), median(m[name][1] for m in measured)) for name in cases}


def main() -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        both = pool.map(measure, range(2))
    table = Table("case", "physics (us a step)", "forward (us a step)", "share of the physics at most")
    alone = mean(own["physics alone"][0] for own in both)
    for name in both[0]:
        physics, forward = (mean(own[name][i] for own in both) for i in (0, 1))
        table.add_row(name, f"{physics:.1f}", f"{forward:.1f}", f"{alone / (physics + forward):.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
