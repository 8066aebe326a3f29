"""Pong: how far the paper's network with virtual batch norm gets on this machine in a given time.

    python benchmarks/pong.py --minutes 60 --sigma 0.01 --lr 0.002

Members play at most 500 steps, so that a ball returned counts also before it is a point won; the centre is measured on
whole games. Writes benchmarks/results/pong.json as it goes, and docs/pong.png.
"""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import sys
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from machine import RESULTS, describe
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from torch_es import ES, EpisodeRules
from torch_es.envs import env_factory
from torch_es.policies import atari_cnn

DOCS = RESULTS.parent.parent / "docs"
CAP = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--num-pairs", type=int, default=24)
    parser.add_argument("--sigma", type=float, default=0.02)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--every", type=int, default=10, help="generations between two measurements of the centre")
    given = parser.parse_args()
    game = env_factory("ALE/Pong-v5")
    network = atari_cnn((4, 84, 84), 6, seed=0)
    optimizer = partial(torch.optim.Adam, lr=given.lr, weight_decay=0.005)
    options: dict[str, Any] = {"sigma": given.sigma, "num_pairs": given.num_pairs}
    start, rows = time.perf_counter(), [measured(network, game, 0, 0, 0.0)]
    with ES(network, game, optimizer=optimizer, rules=EpisodeRules(max_steps=CAP), eval_every=0, **options) as es:
        while time.perf_counter() - start < 60 * given.minutes:
            metrics = es.trainer.run_generation(es.evaluator())
            if es.strategy.generation % given.every == 0:
                row = measured(network, game, es.strategy.generation, es.trainer.total_timesteps, start)
                rows.append({**row, "population": metrics["rollout/ep_rew_mean"]})
                print(rows[-1], flush=True)
                publish(rows, shlex.join(["python", "benchmarks/pong.py", *sys.argv[1:]]))


def measured(network: torch.nn.Module, game: Any, generation: int, steps: int, start: float) -> dict[str, float]:
    """Return where the run stands, with the centre's return over ten whole games."""
    with ES(copy.deepcopy(network), game, num_workers=2) as whole:
        returns = [episode.return_ for episode in whole.evaluate(10)]
    minutes = (time.perf_counter() - start) / 60 if start else 0.0
    centre = {"centre_return": float(np.mean(returns)), "centre_std": float(np.std(returns))}
    return {"minutes": minutes, "generation": generation, "steps": steps, **centre}


def publish(rows: list[dict[str, float]], command: str) -> None:
    """Write the rows and draw them."""
    document = {"machine": describe(), "command": command, "rows": rows}
    (RESULTS / "pong.json").write_text(json.dumps(document, indent=1) + "\n")
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    x, mean, std = (np.array([row[key] for row in rows]) for key in ("minutes", "centre_return", "centre_std"))
    axes.fill_between(x, mean - std, mean + std, alpha=0.2, linewidth=0)
    axes.plot(x, mean, marker="o", markersize=3)
    axes.axhline(mean[0] + 3, color="grey", linestyle=":", label="three points over the start")
    axes.set(xlabel="minutes", ylabel="centre's return, whole games")
    axes.legend(frameon=False)
    figure.savefig(DOCS / "pong.png", dpi=120)


if __name__ == "__main__":
    main()
