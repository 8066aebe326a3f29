"""How a run scales to thousands of workers: a simulation of the driver, checked against real runs with 64 workers.

    .venv/bin/python benchmarks/scaling.py

The simulation replays measured costs: the time of a Humanoid episode, Ray's messages, what the training process does
for a task and a result, and the update. It is checked on a real Ray cluster of four nodes whose 64 workers sleep for as
long as the recorded episodes took. Writes benchmarks/results/scaling.json and docs/scaling.png.
"""

from __future__ import annotations

import heapq
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cluster
import numpy as np
import numpy.typing as npt
import torch
from machine import RESULTS, describe
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from torch_es import ES, mlp
from torch_es.cluster import RayEvaluator, node
from torch_es.cluster.messages import Answer, Failure, Greeting, Posted, Units
from torch_es.envs import EpisodeRules, env_factory
from torch_es.evaluators.ledger import Ledger
from torch_es.evaluators.tolerance import TOLERANCE
from torch_es.evaluators.wire import pack_results
from torch_es.runs.machine import arithmetic, processor
from torch_es.search.perturbation import Mirrored, chunks, serial_sum, sum_parts
from torch_es.training.generation import Generation
from torch_es.types import EpisodeResult, Task

FEATURES, DIM = 348, 166_673  # Humanoid's observation, and a network of 256-256 for it
EPISODES = 10_000  # of a generation, as in Salimans et al. 2017
PER_NODE = 18  # workers of a machine, as there
WORKERS = (18, 180, 1_440, 10_008)
BANDWIDTH = 10e9 / 8  # bytes a second that leave the training process's machine
LATENCY = 100e-6  # seconds that a data centre's network adds to each message, one way
DOCS = Path(__file__).parent.parent / "docs"


class Costs(NamedTuple):
    """Seconds of the training process, and of a message on its way."""

    message: float
    result: float
    task: float
    way: float


def recorded(episodes: int, **kwargs: Any) -> npt.NDArray[np.float64]:
    """Return the seconds that Humanoid's episodes take, one network at a time."""
    torch.set_num_threads(1)
    factory = env_factory("Humanoid-v5", **kwargs)
    es = ES(mlp(FEATURES, 17, hidden=(256, 256), seed=0), factory, sigma=0.02, num_workers=0, num_lanes=1)
    found, steps = [], 0
    for member in range(episodes):
        start = time.process_time()
        steps += es.play(member=member).length
        found.append(time.process_time() - start)
    print(f"an episode: {steps / episodes:,.1f} steps, {1e3 * np.mean(found):.2f} +- {1e3 * np.std(found):.2f} ms")
    return np.array(found)


class Sleepers:
    """Stands on a node in place of `NodeActor`: its workers sleep for as long as recorded episodes took."""

    def __init__(self, num_workers: int, payload: bytes, parcel: Posted, *_: object) -> None:
        self._checksum = parcel.checksum
        self._durations = np.load(os.environ["TORCH_ES_DURATIONS"])
        self._lanes = Lanes(int(os.environ["TORCH_ES_SLEEPERS"]))

    def start(self) -> Greeting | Failure:
        return Greeting(self._lanes.number, self._lanes.number, processor(), arithmetic())

    def exchange(self, number: int, units: Units, patience: float, parcel: Posted | None = None) -> Answer:
        self._checksum = self._checksum if parcel is None else parcel.checksum
        now = time.monotonic()
        for unit in units:
            for task in unit:
                self._lanes.give(now, duration(self._durations, task), task)
        done, at = self._lanes.done(now), now
        if not done:
            at = self._lanes.next(now + patience)
            time.sleep(max(at - time.monotonic(), 0.0))
            done = self._lanes.done(at)
        results = [EpisodeResult(task, 1.0, 100, False, np.ones(2 * FEATURES)) for task in done]
        return Answer(self._checksum, pack_results(results), [None] * len(results), at - now, 0, ())

    def stop(self) -> None:
        pass


def duration(durations: npt.NDArray[np.float64], task: Task) -> float:
    """Return the seconds of a task's episode."""
    return float(durations[hash((task.generation, task.member, task.episode)) % len(durations)])


class Lanes:
    """Workers that play one task after another: when which task ends follows from when it was given."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._free = [0.0] * number
        self._ends: list[tuple[float, Any]] = []

    def give(self, now: float, seconds: float, task: Any) -> None:
        """Queue a task for the worker that is free first."""
        end = max(heapq.heappop(self._free), now) + seconds
        heapq.heappush(self._free, end)
        heapq.heappush(self._ends, (end, task))

    def next(self, latest: float) -> float:
        """Return when the next task ends, or `latest`."""
        return min(self._ends[0][0], latest) if self._ends else latest

    def done(self, now: float) -> list[Any]:
        """Return the tasks that have ended."""
        found = []
        while self._ends and self._ends[0][0] <= now:
            found.append(heapq.heappop(self._ends)[1])
        return found


class Simulated:
    """A node of the simulation: the driver's view of it, and its workers."""

    def __init__(self, workers: int) -> None:
        self.workers, self.num_lanes, self.held = workers, workers, 0
        self.lanes, self.unsent, self.calling = Lanes(workers), list[float](), False


def simulate(durations: Sequence[float], nodes: int, per_node: int, costs: Costs) -> float:
    """Return the seconds that a generation of these episodes takes, from its first task to its last result.

    The driver's loop is that of `torch_es.cluster.driver.ClusterEvaluator.evaluate`, with two tasks at a time.
    """
    team = [Simulated(per_node) for _ in range(nodes)]
    waiting = list(reversed(durations))
    answers: list[tuple[float, int, int, float]] = []  # (when it arrives, node, how many results, share of waiting)
    clock, left, patience = 0.0, len(durations), 1.0
    while True:
        free = [(each.held / each.num_lanes, number) for number, each in enumerate(team)]
        heapq.heapify(free)
        while waiting and free and free[0][0] < 1:
            _, number = heapq.heappop(free)
            for _ in range(min(2, len(waiting))):
                team[number].unsent.append(waiting.pop())
                team[number].held += 1
                clock += costs.task
            heapq.heappush(free, (team[number].held / team[number].num_lanes, number))
        for number, each in enumerate(team):
            if not each.calling and each.held:
                clock += costs.message / 2
                arrives = clock + costs.way
                for seconds in each.unsent:
                    each.lanes.give(arrives, seconds, 0)
                each.unsent = []
                answered = max(arrives, each.lanes.next(arrives + patience))
                results = len(each.lanes.done(answered))
                travelling = 1 - (answered - arrives) / (answered + costs.way - clock)
                heapq.heappush(answers, (answered + costs.way, number, results, travelling))
                each.calling = True
        if not left:
            return clock
        clock = max(clock, answers[0][0])
        while answers and answers[0][0] <= clock:
            _, number, results, travelling = heapq.heappop(answers)
            clock += costs.message / 2 + results * costs.result
            each = team[number]
            each.held -= results
            each.calling = False
            each.num_lanes = each.workers + min(round(2 * results * travelling), each.workers)
            left -= results


def played(episodes: int) -> float:
    """Return the seconds that a generation takes on the cluster that this process has joined."""
    es = ES(mlp(FEATURES, 17, seed=0), "Humanoid-v5", num_pairs=episodes // 2, num_workers=0)
    population = es.strategy.ask()
    snapshot = es.trainer.snapshot(population)
    running = RayEvaluator()(es.objective, snapshot)
    seconds = []
    for _ in range(3):
        generation = Generation(population, EpisodeRules())
        start = time.perf_counter()
        for result in running.evaluate(snapshot, generation.next_tasks):
            generation.add(result)
        seconds.append(time.perf_counter() - start)
    running.close()
    return float(np.median(seconds))


def exchanges(lanes: int, episodes: int) -> tuple[float, float]:
    """Return the seconds and the core-seconds of this process for a generation that one stub answers at once."""
    node.NodeActor = cluster.AtOnce  # type: ignore[misc,assignment]
    os.environ["TORCH_ES_LANES"] = str(lanes)
    with cluster.Nodes(1, 1):
        before = time.process_time()
        seconds = played(episodes)
        return seconds, (time.process_time() - before) / 3


def ledger_seconds(nodes: int) -> float:
    """Return the seconds in which the ledger hands out a task."""
    team = [Simulated(PER_NODE) for _ in range(nodes)]
    ledger: Ledger[Any] = Ledger(TOLERANCE, str)
    units = iter([(Task(0, 2 * i), Task(0, 2 * i + 1)) for i in range(nodes * PER_NODE // 2)])
    start = time.perf_counter()
    given = sum(len(tasks) for _, tasks in ledger.assign(team, lambda: next(units, None)))
    return (time.perf_counter() - start) / given


def measured() -> Costs:
    """Measure what the training process and Ray take."""
    tasks = ledger_seconds(1)
    many, _ = exchanges(1_000, 50_000)
    result = many / 50_000 - tasks
    few, cores = exchanges(2, 2_000)
    message = cores / 1_000 - 2 * (result + tasks)
    way = (few / 1_000 - message - 2 * (result + tasks)) / 2
    return Costs(max(message, 0.0), result, tasks, max(way, 0.0))


def update_seconds(workers: int) -> float:
    """Return the seconds of the update: its parts over all workers, their way back, and theta's way to each node."""
    noise = Mirrored(0, 0, DIM, 0.02)
    pairs = EPISODES // 2
    start = time.perf_counter()
    serial_sum(noise, np.ones(200))
    alone = (time.perf_counter() - start) * pairs / 200
    parts = len(sum_parts(DIM, pairs))
    spread = alone * -(-parts // min(workers, parts)) / parts
    sent = 4 * DIM * (len(chunks(DIM, pairs)) + workers // PER_NODE)
    return spread + sent / BANDWIDTH


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    early = recorded(300)
    full = recorded(60, terminate_when_unhealthy=False)  # lasts to the time limit, as a trained one does
    costs = measured()
    print(costs)
    rows: list[dict[str, Any]] = []
    node.NodeActor = Sleepers  # type: ignore[misc,assignment]
    for name, durations, episodes in (("early", early, 4_000), ("full length", full, 640)):
        np.save(file := RESULTS.parent / "durations-part.npy", durations)
        os.environ |= {"TORCH_ES_DURATIONS": str(file), "TORCH_ES_SLEEPERS": "16"}
        with cluster.Nodes(4, 1):
            real = played(episodes)
        file.unlink()
        tasks = [Task(0, member) for member in range(episodes)]
        predicted = simulate([duration(durations, task) for task in tasks], 4, 16, costs)
        print(f"64 workers, {name}: {real:.3f} s, predicted {predicted:.3f} s, ratio {predicted / real:.3f}")
        rows.append({"kind": "check", "stage": name, "workers": 64, "seconds": real, "predicted": predicted})
    for name, durations in (("early", early), ("full length", full)):
        drawn = np.random.default_rng(0).choice(durations, EPISODES)
        for workers in WORKERS:
            nodes = workers // PER_NODE
            there = costs._replace(way=costs.way + LATENCY, task=ledger_seconds(nodes))
            seconds, update = simulate(drawn, nodes, PER_NODE, there), update_seconds(workers)
            ideal = float(drawn.sum()) / workers
            efficiency, most = ideal / (seconds + update), ideal / simulate(drawn, nodes, PER_NODE, Costs(0, 0, 0, 0))
            rows.append({
                "kind": "predicted", "stage": name, "workers": workers, "seconds": seconds, "update": update,
                "efficiency": efficiency, "without_any_cost": most,
            })  # fmt: skip
            print(f"{workers:6} workers, {name}: {seconds + update:.3f} s, efficiency {efficiency:.3f} of {most:.3f}")
    document = {"machine": describe(), "command": "python benchmarks/scaling.py", "costs": costs._asdict()}
    (RESULTS / "scaling.json").write_text(json.dumps({**document, "rows": rows}, indent=1) + "\n")
    draw(rows)


def draw(rows: Sequence[dict[str, Any]]) -> None:
    """Draw the time of a generation against the workers, as the paper's Figure 1 does."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for stage in ("full length", "early"):
        found = [row for row in rows if row["kind"] == "predicted" and row["stage"] == stage]
        workers = np.array([row["workers"] for row in found])
        seconds = np.array([row["seconds"] + row["update"] for row in found])
        (line,) = panel.loglog(workers, seconds, "o-", label=f"{stage.replace(' ', '-')} episodes")
        panel.loglog(workers, seconds[0] * workers[0] / workers, ":", color=line.get_color())
    panel.set_xlabel("workers")
    panel.set_ylabel("seconds of a generation of 10,000 episodes")
    panel.legend(title="dotted: perfect scaling")
    figure.savefig(DOCS / "scaling.png", dpi=120)


if __name__ == "__main__":
    main()
