"""Progress on standard output: a bar on a terminal, otherwise one plain line for each generation."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from torch_es.types import Metrics


class Terminal(Console):
    """Standard output; the run continues if its reader goes away (`| head -1`)."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a folder's name may have letters that the terminal lacks
        super().__init__(soft_wrap=True, highlight=False, markup=False)  # a folder's name may have brackets

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; a terminal without Unicode gets +/- for ±."""
        plain = not self.encoding.startswith("utf")
        super().print(*(o.replace("±", "+/-") if plain and isinstance(o, str) else o for o in objects), **options)

    def on_broken_pipe(self) -> None:  # F55
        """Say nothing more."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ProgressLogger:
    """Shows generation, steps, steps/s, population mean, centre return and time left.

    Args:
        total_timesteps: Environment steps at which the bar is full.
        console: By default standard output.

    Example:
        >>> ProgressLogger(100, Console(file=sys.stdout)).log({"global_step": 50.0, "rollout/ep_rew_mean": 1.5})
        generation 0 | 50 steps | 0 steps/s | population 1.5 | centre -
    """

    def __init__(self, total_timesteps: int, console: Console | None = None) -> None:
        self._console = console or Terminal()
        self._total = total_timesteps
        self._centre = "-"
        self._bar: Progress | None = None
        if self._console.is_terminal:
            text = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
            self._bar = Progress(BarColumn(20), TimeRemainingColumn(), text, console=self._console, expand=True)
            self._task = self._bar.add_task("starting workers", total=total_timesteps)
            self._bar.start()

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Do nothing: progress is shown from the first row on."""

    def log(self, metrics: Metrics) -> None:
        """Show a row."""
        number, centre = f"generation {metrics.get('time/iterations', 0):.0f}", self._centre
        if "eval/mean_reward" in metrics:
            centre = f"{metrics['eval/mean_reward']:,.1f}"
            self._centre = f"{centre} ({number})"  # until it is evaluated again
        generation, *facts = (
            number,
            f"{metrics['global_step']:,.0f} steps",
            f"{metrics.get('time/fps', 0):,.0f} steps/s",
            f"population {metrics.get('rollout/ep_rew_mean', 0):,.1f}",
            f"centre {centre}",
        )
        if "cluster/nodes" in metrics:
            nodes, workers, tasks = (metrics[f"cluster/{name}"] for name in ("nodes", "workers", "tasks_in_flight"))
            facts.append(f"nodes {nodes:.0f} | workers {workers:.0f} | tasks in flight {tasks:.0f}")
        if self._bar is None:
            self._console.print(" | ".join([generation, *facts]), markup=False)
        else:  # the centre first: a narrow terminal cuts the end
            line = " | ".join([generation, *reversed(facts)])
            self._bar.update(self._task, completed=min(metrics["global_step"], self._total), description=line)

    def close(self, exit_code: int = 0) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
