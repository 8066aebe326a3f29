"""`torch-es report`: a run on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch_es.cli.out import add_out, out_file
from torch_es.loggers.progress import Terminal
from torch_es.report import write_report


def report(arguments: list[str]) -> None:
    """Write one HTML page about a run, with everything in it: curves, population, gradient, video, config, commands."""
    parser = argparse.ArgumentParser("torch-es report", description=report.__doc__)
    parser.add_argument("run", type=Path)
    add_out(parser, "report.html")
    given = parser.parse_args(arguments)
    Terminal().print(str(write_report(given.run, out_file(given.out, given.run, "report.html"))))
