"""Two sides measured in one go, alternating, so that a noisy machine is noisy for both."""

from __future__ import annotations

import json
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from machine import RESULTS, describe
from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One comparison: medians over `pairs` alternating measurements, and the median of their ratios."""

    name: str
    ours: float
    other: float
    ratio: float
    unit: str
    pairs: int
    target: str


def alternate(
    name: str, ours: Callable[[], float], other: Callable[[], float], unit: str, pairs: int, target: str
) -> Row:
    """Measure both sides `pairs` times, the first to go changing each time; the ratio is ours over other."""
    measured = []
    for pair in range(pairs):
        first, second = (ours, other) if pair % 2 == 0 else (other, ours)
        a, b = first(), second()
        measured.append((a, b) if pair % 2 == 0 else (b, a))
        print(f"{name}: {measured[-1][0]:,.6g} | {measured[-1][1]:,.6g} {unit}", flush=True)
    return Row(
        name,
        median(a for a, _ in measured),
        median(b for _, b in measured),
        median(a / b for a, b in measured),
        unit,
        pairs,
        target,
    )


def publish(rows: list[Row], file: str, command: str) -> None:
    """Print the table and write it beside the machine and every version."""
    table = Table("name", "ours", "other", "ratio", "unit", "pairs", "target")
    for row in rows:
        table.add_row(row.name, f"{row.ours:,.4g}", f"{row.other:,.4g}", f"{row.ratio:.3f}", *map(str, row[4:]))
    Console(width=160).print(table)
    document = {"machine": describe(), "command": command, "rows": [row._asdict() for row in rows]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / file).write_text(json.dumps(document, indent=1) + "\n")
