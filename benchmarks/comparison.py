"""Arms of an experiment, trained for the same steps with the same seeds, as rows, a table and curves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, describe
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from torch_es import ES

DOCS = RESULTS.parent.parent / "docs"
Row = dict[str, Any]


def trained(task: str, arm: str, seed: int, make: Callable[[int], ES], timesteps: int) -> Row:
    """Train one run; return its curve of the centre and where it ended, over ten noise-free episodes."""
    curve: list[tuple[float, float]] = []

    def keep(metrics: dict[str, float]) -> None:
        if "eval/mean_reward" in metrics:
            curve.append((metrics["global_step"], metrics["eval/mean_reward"]))

    with make(seed) as es:
        es.learn(timesteps, callback=keep)
        final = float(np.mean([episode.return_ for episode in es.evaluate(10)]))
    steps, centre = map(list, zip(*curve, strict=True))
    row = {"task": task, "arm": arm, "seed": seed, "final": final, "steps": steps, "centre": centre}
    print(task, arm, seed, round(final, 1), flush=True)
    return row


def publish(rows: Sequence[Row], file: str, command: str) -> None:
    """Write the rows beside the machine and versions, and draw them into docs/."""
    document = {"machine": describe(), "command": command, "rows": rows}
    (RESULTS / f"{file}.json").write_text(json.dumps(document, indent=1) + "\n")
    draw(rows, DOCS / f"{file.replace('_', '-')}.png")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, a line for each task and arm."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"| Return | {' | '.join(f'seed {s}' for s in seeds)} | mean |",
        "|---" * (len(seeds) + 2) + "|",
    ]
    for task, arm in dict.fromkeys((row["task"], row["arm"]) for row in rows):
        own = {row["seed"]: row for row in rows if (row["task"], row["arm"]) == (task, arm)}
        cells = [f"{own[seed]['final']:,.0f}" if seed in own else "-" for seed in seeds]
        mean = float(np.mean([row["final"] for row in own.values()]))
        lines.append(f"| {task}, {arm} | {' | '.join(cells)} | **{mean:,.0f}** |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], out: Path) -> None:
    """Draw a panel a task and a line an arm: the mean over seeds, and their range."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = Figure(figsize=(5.5 * len(tasks), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, task in zip(panels, tasks, strict=True):
        own = [row for row in rows if row["task"] == task]
        for i, arm in enumerate(dict.fromkeys(row["arm"] for row in own)):
            _line(axis, [row for row in own if row["arm"] == arm], arm, f"C{i}")
        axis.set(title=task, xlabel="environment steps", ylabel="centre's return, noise-free")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def _line(axis: Axes, rows: Sequence[Row], arm: str, colour: str) -> None:
    grid = np.linspace(0, min(row["steps"][-1] for row in rows), 60)
    curves = np.array([np.interp(grid, row["steps"], row["centre"]) for row in rows])
    axis.fill_between(grid, curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0)
    axis.plot(grid, curves.mean(0), color=colour, label=f"{arm} ({len(rows)} seeds)")
