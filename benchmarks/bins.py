"""Hopper with ten bins for each component of an action, as in Salimans et al. 2017, beside continuous actions.

    python benchmarks/bins.py

Writes benchmarks/results/bins.json and docs/bins.png.
"""

from __future__ import annotations

from functools import partial

import torch
from comparison import publish, trained

from torch_es import ES, mlp

SEEDS = (0, 1, 2)
TIMESTEPS = 1_500_000
ARMS = {"continuous": ("clip", 3), "uniform:10": ("uniform:10", 30)}  # head, outputs


def make(arm: str, seed: int) -> ES:
    """Return the trainer of one arm."""
    box_head, outputs = ARMS[arm]
    return ES(
        mlp(11, outputs, hidden=(64, 64), seed=seed),
        "Hopper-v5",
        box_head=box_head,
        optimizer=partial(torch.optim.Adam, lr=0.01),
        sigma=0.02,
        num_pairs=64,
        eval_every=5,
        seed=seed,
    )


def main() -> None:
    rows = []
    for arm in ARMS:
        for seed in SEEDS:
            rows.append(trained("Hopper-v5", arm, seed, partial(make, arm), TIMESTEPS))
            publish(rows, "bins", "python benchmarks/bins.py")


if __name__ == "__main__":
    main()
