"""Frame skip 1, 2, 3, 4: the robustness experiment of Salimans et al. 2017 (section 4.4, figure 2), as a sweep.

    python benchmarks/frame_skip.py swimmer     # action repeat on a MuJoCo task
    python benchmarks/frame_skip.py pong        # frame skip on Pong, on a small budget of updates

Runs the one command that it prints, `torch-es --multirun ...`, draws the centre's return against weight updates into
docs/frame_skip-NAME.png, and writes benchmarks/results/frame_skip.json; arguments after the name are further overrides.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import RESULTS, describe
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torch_es.cli.config import load_config
from torch_es.report.plotting import read_metrics

DOCS = RESULTS.parent.parent / "docs"
SKIPS = "1,2,3,4"
SWEEPS = {  # a budget of updates, not of steps: that is what stays alike in the paper
    "swimmer": [
        "env=swimmer",
        f"env.action_repeat={SKIPS}",
        "seed=0,1,2",
        "strategy.num_pairs=16",
        "eval_every=2",
        "total_timesteps=1_000_000_000",
        "max_seconds=100",
    ],
    "pong": [
        "experiment=salimans_atari",
        "env.id=ALE/Pong-v5",
        f"env.kwargs.frame_skip={SKIPS}",
        "env.kwargs.max_frames=2_000",  # the same stretch of the game for each; a ball returned counts before a point
        "strategy.num_pairs=24",
        "strategy.sigma=0.01",
        "optimizer.lr=0.002",
        "eval_every=3",
        "eval_episodes=10",
        "total_timesteps=1_000_000_000",
        "max_seconds=450",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", choices=SWEEPS)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        overrides = [*SWEEPS[given.sweep], "video=false", *given.overrides]
        run_dir = f"run_dir={folder}/${{now:%H%M%S%f}}"
        command = shlex.join(["torch-es", "--multirun", *overrides])
        print(command, flush=True)
        subprocess.run([sys.executable, "-m", "torch_es", "--multirun", *overrides, run_dir], check=True)
        runs = sorted(map(measured, Path(folder).glob("*/config.yaml")), key=lambda run: (run["skip"], run["seed"]))
    draw(runs, given.sweep)
    path = RESULTS / "frame_skip.json"
    sweeps = json.loads(path.read_text()) if path.is_file() else {}
    sweeps[given.sweep] = {"machine": describe(), "command": command, "rows": runs}
    path.write_text(json.dumps(sweeps, indent=1) + "\n")


def measured(config: Path) -> dict[str, Any]:
    """Return a run's frame skip and seed, and the centre's return when it was evaluated, against weight updates."""
    settings = load_config(config.parent)
    env = settings["env"]
    rows = [row for row in read_metrics(config.parent) if "eval/mean_reward" in row]
    return {
        "skip": env["kwargs"].get("frame_skip", env["action_repeat"]),
        "seed": settings["seed"],
        "updates": [int(row["time/iterations"]) for row in rows],
        "centre": [row["eval/mean_reward"] for row in rows],
    }


def draw(runs: list[dict[str, Any]], name: str) -> None:
    """Draw the runs, a colour for each frame skip."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for i, run in enumerate(runs):
        first = all(run["skip"] != other["skip"] for other in runs[:i])
        label = f"frame skip {run['skip']}" if first else None
        axes.plot(run["updates"], run["centre"], color=f"C{run['skip'] - 1}", label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="weight updates", ylabel="return of the centre", title=name)
    axes.legend()
    FigureCanvasAgg(figure).print_png(DOCS / f"frame_skip-{name}.png")


if __name__ == "__main__":
    main()
