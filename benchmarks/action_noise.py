"""Noise on the parameters, on the actions, on both: what each learns from the same steps.

    python benchmarks/action_noise.py

Writes benchmarks/results/action_noise.json and docs/action-noise.png.
"""

from __future__ import annotations

from functools import partial

import torch
from comparison import publish, trained

from torch_es import ES, mlp

SEEDS = (0, 1, 2)
TASKS = {  # sizes of the network, steps, noise on actions
    "CartPole-v1": (4, 2, 300_000, "sample"),
    "HalfCheetah-v5": (17, 6, 1_000_000, "gaussian:0.2"),
}
ARMS = ("parameters", "actions", "both")


def make(task: str, arm: str, seed: int) -> ES:
    """Return the trainer of one arm; nothing differs but where the noise is."""
    inputs, outputs, _, noise = TASKS[task]
    return ES(
        mlp(inputs, outputs, hidden=(64, 64), seed=seed),
        task,
        optimizer=partial(torch.optim.Adam, lr=0.01),
        sigma=0 if arm == "actions" else 0.02,
        action_noise=None if arm == "parameters" else noise,
        num_pairs=32,
        eval_every=2,
        seed=seed,
    )


def main() -> None:
    rows = []
    for task, (_, _, timesteps, _) in TASKS.items():
        for arm in ARMS:
            for seed in SEEDS:
                rows.append(trained(task, arm, seed, partial(make, task, arm), timesteps))
                publish(rows, "action_noise", "python benchmarks/action_noise.py")


if __name__ == "__main__":
    main()
