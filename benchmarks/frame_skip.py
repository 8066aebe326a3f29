"""Frame skip 1, 2, 3, 4: the robustness experiment of Salimans et al. 2017 (section 4.4, figure 2), as a sweep.

    python benchmarks/frame_skip.py swimmer     # action repeat on a MuJoCo task
    python benchmarks/frame_skip.py pong        # frame skip on Pong, on a small budget of updates

Runs the one command that it prints, `torch-es --multirun ...`, and draws the centre's return against weight updates
into docs/frame_skip-NAME.png; arguments after the name are further overrides.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import RESULTS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from torch_es.config import load_config
from torch_es.plotting import read_metrics

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
        print("torch-es --multirun", *overrides, flush=True)
        subprocess.run([sys.executable, "-m", "torch_es", "--multirun", *overrides, run_dir], check=True)
        draw([path.parent for path in Path(folder).glob("*/config.yaml")], given.sweep)


def draw(folders: list[Path], name: str) -> None:
    """Draw the runs, a colour for each frame skip."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    named: set[int] = set()
    for folder in folders:
        env = load_config(folder)["env"]
        skip = env["kwargs"].get("frame_skip", env["action_repeat"])
        rows = [row for row in read_metrics(folder) if "eval/mean_reward" in row]
        x, y = [row["time/iterations"] for row in rows], [row["eval/mean_reward"] for row in rows]
        axes.plot(x, y, color=f"C{skip - 1}", label=None if skip in named else f"frame skip {skip}")
        named.add(skip)
        print(f"frame skip {skip}: {x[-1]:,.0f} updates, centre {y[0]:,.1f} -> {y[-1]:,.1f}")
    axes.set(xlabel="weight updates", ylabel="return of the centre", title=name)
    axes.legend()
    FigureCanvasAgg(figure).print_png(DOCS / f"frame_skip-{name}.png")


if __name__ == "__main__":
    main()
