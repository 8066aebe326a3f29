"""`torch-es plot`: the curves of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch_es.plotting import plot_runs
from torch_es.progress import Terminal


def plot(arguments: list[str]) -> None:
    """Draw the curves of runs over each other."""
    parser = argparse.ArgumentParser("torch-es plot", description=plot.__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="by default curve.png in the first run's folder")
    given = parser.parse_args(arguments)
    Terminal().print(str(plot_runs(given.runs, given.out or given.runs[0] / "curve.png")))
