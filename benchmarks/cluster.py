"""A Ray cluster: what one node costs beside worker processes alone, what the driver can take, and how theta travels.

    .venv/bin/python benchmarks/cluster.py [--only node driver theta] [--pairs 5]

Writes benchmarks/results/cluster.json. The nodes are real Ray nodes on this machine. In `driver` the actors on them are
stubs that answer at once, so that what is measured is the training process: Ray's messages, unpacking, the ledger and
the generation's bookkeeping.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import physics
import ray
import torch
from pairs import Row, alternate, publish
from ray.cluster_utils import Cluster

from torch_es import ES, mlp
from torch_es.cluster import RayEvaluator, node
from torch_es.cluster.messages import Answer, Failure, Greeting, Posted, Units, posted, received
from torch_es.envs import EpisodeRules
from torch_es.evaluators.wire import pack_results
from torch_es.rollout import Snapshot
from torch_es.runs.machine import arithmetic, processor
from torch_es.search.perturbation import Mirrored, serial_sum
from torch_es.training.generation import Generation
from torch_es.types import EpisodeResult

EPISODES, NODES, LANES, FEATURES = 100_000, 4, 1_000, 348  # of Humanoid's observation, whose sums take 5.6 KB
SIZES = (5_702, 159_505, 10_000_000)


class Nodes:
    """A head without CPUs, and nodes; this process has joined it."""

    def __init__(self, nodes: int, cpus: int) -> None:
        head = {"num_cpus": 0, "node_ip_address": "127.0.0.2", "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        for number in range(nodes):
            self._cluster.add_node(num_cpus=cpus, node_ip_address=f"127.0.1.{number + 1}")
        ray.init(address=self._cluster.address, logging_level=logging.ERROR, log_to_driver=False)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self._cluster.shutdown()


def node_rows(pairs: int) -> Iterator[Row]:
    """Yield training on a cluster of one node beside training with worker processes."""
    case = physics.CASES[0]
    with Nodes(1, physics.WORKERS), physics.trainer(case, case.env, physics.WORKERS) as alone:
        probe = gym.make(case.env)
        network = mlp(probe.observation_space.shape[0], probe.action_space.shape[0], hidden=case.hidden, seed=0)
        options = {"num_pairs": case.num_pairs, "sigma": 0.02, "eval_every": 0}
        with ES(network, case.env, evaluator=RayEvaluator(num_workers=physics.WORKERS), **options) as there:

            def rate(es: ES) -> float:
                steps, seconds = physics.train(es, case.generations, None)
                return steps / seconds

            rate(there), rate(alone)  # start-up
            sides = [(partial(rate, there), partial(rate, alone))] * pairs
            yield alternate(f"node/{case.env}/{physics.WORKERS} workers", sides, "steps/s", ">= 0.97")


class AtOnce:
    """Stands on a node in place of `NodeActor` and answers each task at once."""

    def __init__(self, num_workers: int, payload: bytes, parcel: Posted, *_: object) -> None:
        self._checksum = parcel.checksum

    def start(self) -> Greeting | Failure:
        return Greeting(1, int(os.environ.get("TORCH_ES_LANES", LANES)), processor(), arithmetic())

    def exchange(self, number: int, units: Units, patience: float, parcel: Posted | None = None) -> Answer:
        self._checksum = self._checksum if parcel is None else parcel.checksum
        results = [EpisodeResult(task, 1.0, 100, False, np.ones(2 * FEATURES)) for unit in units for task in unit]
        return Answer(self._checksum, pack_results(results), [None] * len(results), 0.0, 0, ())

    def stop(self) -> None:
        pass


def driver_rows(pairs: int) -> Iterator[Row]:
    """Yield results a second, and the memory that a generation of 100,000 episodes takes."""
    node.NodeActor = AtOnce  # type: ignore[misc,assignment]
    es = ES(mlp(FEATURES, 17, seed=0), "Humanoid-v5", num_pairs=EPISODES // 2, num_workers=0)
    population = es.strategy.ask()
    snapshot = es.trainer.snapshot(population)
    with Nodes(NODES, 1):
        running = RayEvaluator()(es.objective, snapshot)

        def rate() -> float:
            generation = Generation(population, EpisodeRules())
            start = time.perf_counter()
            for result in running.evaluate(snapshot, generation.next_tasks):
                generation.add(result)
            assert generation.returns.size == EPISODES
            return EPISODES / (time.perf_counter() - start)

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rates = [rate() for _ in range(pairs)]
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        running.close()
    middle = float(np.median(rates))
    yield Row("driver/results", middle, 20_000, middle / 20_000, "results/s", pairs, ">= 1")
    yield Row("driver/memory of 100,000 episodes", taken / 2**20, 0, 0, "MiB", 1, "")


class Holder:
    """Reads a snapshot on its node, as a node does before it plays; or computes a whole update, as a replica would."""

    def read(self, parcel: Posted) -> int:
        received(parcel)
        return parcel.checksum


def theta_rows(pairs: int) -> Iterator[Row]:
    """Yield what a broadcast of theta to two nodes takes, beside each node's own computing of the update."""
    with Nodes(2, 1):
        made = ray.remote(Holder)
        holders = [made.options(num_cpus=1, scheduling_strategy="SPREAD").remote() for _ in range(2)]
        for dim in SIZES:
            noise = Mirrored(0, 0, dim, 0.1)
            snapshot = Snapshot(torch.zeros(dim), noise, None)
            coefficients = np.ones(100)

            def broadcast(snapshot: Snapshot = snapshot) -> float:
                start = time.perf_counter()
                parcel = ray.put(posted(0, snapshot))
                ray.get([holder.read.remote(parcel) for holder in holders])
                return 1e3 * (time.perf_counter() - start)

            def replica(noise: Mirrored = noise, coefficients: Any = coefficients) -> float:
                start = time.perf_counter()
                serial_sum(noise, coefficients)
                return 1e3 * (time.perf_counter() - start)

            broadcast(), replica()
            yield alternate(f"theta/{dim:,} parameters", [(broadcast, replica)] * pairs, "ms", "")


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {"node": node_rows, "driver": driver_rows, "theta": theta_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    file = "cluster.json" if given.pairs >= 5 else "cluster-part.json"
    for name in given.only:
        publish(list(PARTS[name](given.pairs)), file, "python benchmarks/cluster.py")


if __name__ == "__main__":
    main()
