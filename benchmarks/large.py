"""Noise of low rank and large modules: the update, lanes, training, and the memory of evolving a billion parameters.

    .venv/bin/python benchmarks/large.py [--only update lanes physics memory] [--pairs 5] [--parameters 100_000_000 ...]

The rows are written to benchmarks/results/large.json as each part ends.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from pairs import Row, Side, alternate, publish
from physics import CASES, share
from torch import nn

from torch_es import ES, mlp
from torch_es.lanes.matmul import MatmulLanes
from torch_es.lanes.shared import SharedLanes
from torch_es.search import LowRank, Mirrored, SearchGradient
from torch_es.search.low_rank import factored
from torch_es.search.parameters import FlatParameters
from torch_es.search.perturbation import Noisy, serial_sum
from torch_es.spaces import Layout

WIDTH = 2048  # of the large module's layers
MASTER = 4  # bytes of a float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="other rows stay as they are")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--parameters", type=int, nargs="+", default=[100_000_000, 1_000_000_000])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for part in given.only:
        publish(list(PARTS[part](given)), "large.json", "python benchmarks/large.py")


def update_rows(given: argparse.Namespace) -> Iterator[Row]:
    """Yield the sum of noise for 1.7 million parameters and 500 pairs, dense beside rank 1."""
    parameters = FlatParameters(nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 700)))
    linear = np.random.default_rng(0).normal(size=500)
    low = LowRank(0, 0, parameters.dim, 0.1, factored(parameters, 1))
    sides = [(partial(seconds_of, Mirrored(0, 0, parameters.dim, 0.1), linear), partial(seconds_of, low, linear))]
    yield alternate("update/1.7M parameters x 500 pairs, dense over rank 1", sides * given.pairs, "s", ">= 20")


def seconds_of(noise: Noisy, linear: np.ndarray) -> float:
    start = time.perf_counter()
    serial_sum(noise, linear)
    return time.perf_counter() - start


def lane_rows(given: argparse.Namespace) -> Iterator[Row]:
    """Yield the time of a lane's step of Humanoid's network, dense beside rank 1."""
    network = mlp(348, 17, hidden=(256, 256), seed=0, normalize_observations=False)
    parameters = FlatParameters(network)
    theta, layout = parameters.read_masters(), Layout(gym.spaces.Box(-1, 1, (348,)))
    noise = LowRank(0, 0, parameters.dim, 0.1, factored(parameters, 1))
    for number in (4, 16, 64):
        shared, dense = SharedLanes(network, number, layout, None, noise.parts), MatmulLanes(network, number, layout)
        for lane in range(number):
            shared.write(lane, noise.factors(theta, lane))
            dense.write(lane, noise.member(theta, lane, torch.empty_like(theta)))
        rows = np.random.default_rng(0).standard_normal((number, 348), dtype=np.float32)
        sides: tuple[Side, Side] = tuple(partial(microseconds, lanes.forward, rows) for lanes in (dense, shared))
        yield alternate(f"lanes/348-256-256-17/{number} lanes, dense over rank 1", [sides] * given.pairs, "us", "")


def microseconds(forward: Callable[..., np.ndarray], rows: np.ndarray) -> float:
    """Return the time of one lane's step."""
    start = time.perf_counter()
    for _ in range(300):
        forward(rows, range(len(rows)))
    return (time.perf_counter() - start) / 300 / len(rows) * 1e6


def physics_rows(given: argparse.Namespace) -> Iterator[Row]:
    """Yield training on Humanoid beside `env.step` alone on its actions, dense and rank 1."""
    (dense,) = (case for case in CASES if case.env == "Humanoid-v5")
    for case in (dense, dense._replace(rank=1)):
        yield share(case, given.pairs)


def memory_rows(given: argparse.Namespace) -> Iterator[Row]:
    """Yield the peak of memory of two generations beside the module and its master; each in a process of its own.

    glibc keeps freed memory unless it is told not to: then the peak says what was held, and not how it was cut.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "1000000"
    context = multiprocessing.get_context("spawn")
    for number in given.parameters:
        for kind in ("rank 1", "dense", "SearchGradient"):
            with context.Pool(1) as pool:
                used, module = pool.apply(peak, (kind, number))
            whole = module.bytes + MASTER * module.parameters
            if kind == "SearchGradient":
                whole += module.bytes  # .grad
            name = f"memory/{module.parameters / 1e6:,.0f}M in bfloat16/{kind}"
            print(f"{name}: {used / 2**20:,.0f} | {whole / 2**20:,.0f} MiB", flush=True)
            yield Row(name, used / 2**20, whole / 2**20, used / whole, "MiB", 1, "<= 1.15")


class Size(NamedTuple):
    """Of a module."""

    parameters: int
    bytes: int


def peak(kind: str, number: int) -> tuple[int, Size]:
    """Evolve a module for two generations; return bytes of memory over the start, and its size."""
    train(stack(WIDTH * WIDTH), kind)  # loads what any run loads
    gc.collect()
    before = resident()
    network = stack(number)
    train(network, kind)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    parameters = list(network.parameters())
    return used, Size(sum(p.numel() for p in parameters), sum(p.nbytes for p in parameters))


def stack(number: int) -> nn.Sequential:
    """Return layers with about that many parameters, in bfloat16."""
    layers = [nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.bfloat16) for _ in range(round(number / WIDTH**2))]
    return nn.Sequential(*layers)


def train(network: nn.Sequential, kind: str) -> None:
    x = torch.ones(1, WIDTH, dtype=torch.bfloat16)

    def fitness(module: nn.Module) -> float:  # of one layer: what a forward needs is not asked here
        return float(module[0](x).float().mean())

    if kind == "SearchGradient":
        gradient = SearchGradient(network, sigma=1e-3, num_pairs=2, rank=1)
        for _ in range(2):
            gradient.backward(fitness)
        return
    optimizer, rank = partial(torch.optim.SGD, lr=1e-3), 1 if kind == "rank 1" else None
    options = {"sigma": 1e-3, "num_pairs": 2, "eval_every": 0, "optimizer": optimizer, "rank": rank}
    ES(network, fitness_fn=fitness, num_workers=0, **options).learn(8)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


PARTS = {"update": update_rows, "lanes": lane_rows, "physics": physics_rows, "memory": memory_rows}

if __name__ == "__main__":
    main()
