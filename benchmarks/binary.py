"""Binary networks beside their float twins: the same architecture, strategy and budget, several seeds.

    python benchmarks/binary.py

A binary network's weights and activations are -1 or 1 (`QuantizedWeights`, `Sign`), its twin's floats and tanh; biases
are floats in both. Writes benchmarks/results/binary.json, from which benchmarks/tables.py makes the table.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from statistics import mean
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from machine import RESULTS, describe
from torch import nn

from torch_es import ES
from torch_es.heads import make_head
from torch_es.nn import QuantizedWeights, binarize
from torch_es.policies import mlp


class Task(NamedTuple):
    """What both twins play."""

    timesteps: int
    box_head: str = "clip"


TASKS = {
    "CartPole-v1": Task(300_000),
    "InvertedPendulum-v5": Task(600_000, "uniform:11"),
    "Swimmer-v5": Task(600_000, "uniform:5"),
}
ADAM = partial(torch.optim.Adam, lr=0.05)


def centre_return(env_id: str, task: Task, seed: int, binary: bool) -> float:
    """Train one network and return its mean return over 20 noise-free episodes."""
    env = gym.make(env_id)
    inputs, outputs = env.observation_space.shape[0], make_head(env.action_space, task.box_head).size
    network: nn.Module = mlp(inputs, outputs, (64,), "sign" if binary else "tanh", output_scale=1.0, seed=seed)
    if binary:
        network = QuantizedWeights(network, binarize)
    options: dict[str, Any] = {"optimizer": ADAM, "sigma": 0.1, "num_pairs": 16, "box_head": task.box_head}
    with ES(network, env_id, seed=seed, eval_every=0, **options) as es:
        es.learn(task.timesteps)
        return mean(episode.return_ for episode in es.evaluate(20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    given = parser.parse_args()
    rows = []
    for env_id, task in TASKS.items():
        for seed in given.seeds:
            returns = {name: centre_return(env_id, task, seed, name == "binary") for name in ("float", "binary")}
            rows.append({"env": env_id, "timesteps": task.timesteps, "seed": seed, **returns})
            print(rows[-1], flush=True)
            document = {"machine": describe(), "command": "python benchmarks/binary.py", "rows": rows}
            (RESULTS / "binary.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
