"""The update: its share of a generation, its time beside the noise alone, its memory, and bytes per evaluation."""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from pairs import Row, Team, alternate
from physics import CASES, WORKERS, Case, train, trainer

from torch_es import ES, mlp
from torch_es.evaluators import process
from torch_es.evaluators.protocol import NextTasks
from torch_es.rollout import Objective, Snapshot
from torch_es.search.noise import BLOCK, num_blocks, room
from torch_es.search.perturbation import Noisy, Summation, serial_sum
from torch_es.search.sfc64 import SFC64Noise
from torch_es.types import EpisodeResult, Task

LARGE_PAIRS = 500
HUMANOID = Case("Humanoid-v5", (256, 256), 8, 1, 0)


def rows(pairs: int) -> Iterator[Row]:
    """Yield each measurement."""
    yield share_of_generation(CASES[0], pairs)
    yield from large_module(pairs)
    yield many_pairs(pairs)
    yield bookkeeping(pairs)
    yield bytes_per_evaluation(CASES[0])
    yield bytes_per_evaluation(HUMANOID)


def share_of_generation(case: Case, pairs: int) -> Row:
    """Noise regeneration, gradient and step beside the whole generation that they end."""
    with trainer(case, case.env, WORKERS) as es:
        tell = es.strategy.tell
        spent: list[float] = []

        def timed(*args: Any) -> dict[str, float]:
            start = time.perf_counter()
            metrics = tell(*args)
            spent.append(time.perf_counter() - start)
            return metrics

        es.strategy.tell = timed  # type: ignore[method-assign]
        whole = [train(es, 1, None)[1] for _ in range(pairs + 1)]
    ratio = median(a / b for a, b in zip(spent[1:], whole[1:], strict=True))
    ours, other = median(spent[1:]) * 1e3, median(whole[1:]) * 1e3
    return Row(f"update/share of a {case.env} generation", ours, other, ratio, "ms", pairs, "<= 0.03")


def noise_alone(dim: int, part: int) -> Callable[[], None]:
    """Return a function that generates one worker's part of the noise of a generation."""
    noise, out = SFC64Noise(0, dim), room(1, BLOCK)

    def generate() -> None:
        for block in range(part, num_blocks(dim), WORKERS):
            view = out[:, : min(BLOCK, dim - block * BLOCK)]
            for pair in range(LARGE_PAIRS):
                noise.fill(view, 0, [pair], block * BLOCK)

    return generate


def large_module(pairs: int) -> Iterator[Row]:
    """Yield time beside the noise alone and peak memory, of the update of 1.7 million parameters by 500 pairs."""
    module = mlp(64, 10, hidden=(1280, 1280), seed=0)
    returns = np.random.default_rng(0).standard_normal((LARGE_PAIRS, 2))
    with ES(module, fitness_fn=lambda _: 0.0, num_pairs=LARGE_PAIRS, num_workers=WORKERS) as es:
        evaluator = es.evaluator()
        assert isinstance(evaluator, process.ProcessEvaluator)
        dim = es.strategy.parameters.dim
        alone = Team([partial(noise_alone, dim, part) for part in range(WORKERS)])

        def update() -> float:
            start = time.perf_counter()
            es.strategy.tell(returns, evaluator.noise_sum)
            return time.perf_counter() - start

        update(), alone.seconds()  # first touch, and the optimiser's state
        name = f"update/{dim / 1e6:.2f}M parameters x {LARGE_PAIRS} pairs"
        yield alternate(name, [(update, alone.seconds)] * pairs, "s", "<= 1.5")
        grown = median(peak(update, evaluator.pids) for _ in range(pairs))
    alone.close()
    ours, other = grown / 2**20, 4 * dim / 2**20
    yield Row(f"{name}/peak over standing memory", ours, other, ours / other, "MiB", pairs, "<= 4")


def many_pairs(pairs: int) -> Row:
    """The update of a small network by 5,000 pairs: two workers beside this process alone."""
    module = mlp(17, 6, hidden=(64, 64), seed=0)
    returns = np.random.default_rng(0).standard_normal((5_000, 2))
    with ES(module, fitness_fn=lambda _: 0.0, num_pairs=5_000, num_workers=WORKERS) as es:
        evaluator = es.evaluator()

        def update(summation: Summation) -> float:
            start = time.perf_counter()
            es.strategy.tell(returns, summation)
            return time.perf_counter() - start

        update(evaluator.noise_sum)  # first touch
        name = f"update/{es.strategy.parameters.dim:,} parameters x 5,000 pairs/{WORKERS} workers over none"
        sides = [(partial(update, evaluator.noise_sum), partial(update, serial_sum))] * pairs
        return alternate(name, sides, "s", "<= 0.6")


class Made:
    """An evaluator whose results are made up at once: what is left is the trainer's own work."""

    restarts = 0

    def __init__(self, objective: Objective, snapshot: Snapshot) -> None:
        assert snapshot.statistics is not None
        self.moments = np.ones(2 * len(snapshot.statistics[0]))

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """Yield episodes of ten steps."""
        given: deque[Task] = deque()
        while True:
            while len(given) < 32 and (tasks := next_tasks()):
                given.extend(tasks)
            if not given:
                return
            task = given.popleft()
            yield EpisodeResult(task, float(task.member % 7), 10, False, self.moments)

    def noise_sum(self, noise: Noisy, linear: Any, squared: Any = None) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros(1, noise.dim)

    def close(self) -> None:
        """Nothing was started."""


def bookkeeping(pairs: int) -> Row:
    """The parent's own time for the paper's generation: 10,000 episodes, 100,000 steps, Humanoid's statistics."""
    options: dict[str, Any] = {"min_episodes": 10_000, "min_timesteps": 100_000, "eval_every": 0}
    with ES(mlp(348, 17, (64,)), "Humanoid-v5", evaluator=Made, **options) as es:
        spent = []
        for _ in range(pairs + 1):
            start = time.process_time()
            es.trainer.run_generation(es.evaluator())
            spent.append(time.process_time() - start)
    ours = median(spent[1:])
    return Row("parent/bookkeeping of 10,000 episodes", ours, 0.3, ours / 0.3, "s of CPU", pairs, "<= 1")


def peak(work: Callable[[], object], workers: list[int]) -> int:
    """Return the bytes by which this process and the workers grow while it works."""
    before = reset_peak(workers)
    work()
    return sum(resident(pid, "VmHWM") for pid in before) - sum(before.values())


def reset_peak(workers: list[int]) -> dict[str, int]:
    """Forget the peaks of this process and the workers (Linux, glibc); return what is resident now, in bytes."""
    ctypes.CDLL(None).malloc_trim(0)  # what the last update freed must not hide what this one takes
    pids = ["self", *map(str, workers)]
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return {pid: resident(pid, "VmRSS") for pid in pids}


def resident(pid: str, field: str) -> int:
    """Return VmRSS or VmHWM of a process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def bytes_per_evaluation(case: Case) -> Row:
    """What workers send for one evaluation, beside its statistics delta alone."""
    received: list[int] = []
    receive = process.receive

    def counting(connection: Any) -> bytes | None:
        message = receive(connection)
        received.append(len(message or b""))
        return message

    with trainer(case, case.env, WORKERS) as es:
        evaluator = es.evaluator()
        process.receive = counting
        try:
            results = list(evaluator.evaluate(es.trainer.snapshot(), iter_tasks(case)))
        finally:
            process.receive = receive
        delta = sum(r.moments.nbytes for r in results if r.moments is not None) / len(results)
        ours = sum(received) / len(results)
        name = f"bytes per evaluation/{case.env}/{es.strategy.parameters.dim} parameters"
    return Row(name, ours, delta, ours / delta, f"B ({ours - delta:.1f} besides)", 1, "<= 64 besides")


def iter_tasks(case: Case) -> Callable[[], Any]:
    """Return what gives the tasks of generation 0, a pair at a time."""
    pairs = iter(range(case.num_pairs))

    def next_tasks() -> tuple[Task, ...] | None:
        pair = next(pairs, None)
        return None if pair is None else (Task(0, 2 * pair, world=pair), Task(0, 2 * pair + 1, world=pair))

    return next_tasks
