"""Plots of runs, and one HTML page that shows a run with everything inline."""

from torch_es.report.page import write_report
from torch_es.report.plotting import plot_runs, read_metrics
from torch_es.report.split_half import split_half_cosine

__all__ = [
    "plot_runs",
    "read_metrics",
    "split_half_cosine",
    "write_report",
]
