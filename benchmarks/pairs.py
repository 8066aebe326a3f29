"""Two sides measured in one go, alternating, so that a noisy machine is noisy for both."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, NamedTuple

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


Side = Callable[[], float]


def alternate(name: str, sides: Iterable[tuple[Side, Side]], unit: str, target: str) -> Row:
    """Measure (ours, other) pairs, the first to go changing each time; the ratio is ours over other."""
    measured = []
    for ours, other in sides:
        a, b = (ours(), other()) if len(measured) % 2 == 0 else reversed((other(), ours()))
        measured.append((a, b))
        print(f"{name}: {a:,.6g} | {b:,.6g} {unit}", flush=True)
    ratio = median(a / b for a, b in measured)
    return Row(name, median(a for a, _ in measured), median(b for _, b in measured), ratio, unit, len(measured), target)


def serve(make: Callable[[], Callable[[], None]], connection: Any) -> None:
    work = make()
    connection.send("ready")
    while connection.recv() == "go":
        work()
        connection.send("done")


class Team:
    """Processes that do their share of some work whenever told to; `makers` build it in the process."""

    def __init__(self, makers: list[Callable[[], Callable[[], None]]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.ends = []
        for make in makers:
            ours, theirs = context.Pipe()
            context.Process(target=serve, args=(make, theirs), daemon=True).start()
            self.ends.append(ours)
        self._wait()

    def _wait(self) -> None:
        for end in self.ends:
            end.recv()

    def seconds(self) -> float:
        """Have the work done; return how long the slowest took."""
        start = time.perf_counter()
        for end in self.ends:
            end.send("go")
        self._wait()
        return time.perf_counter() - start

    def close(self) -> None:
        for end in self.ends:
            end.send("stop")


def publish(rows: list[Row], file: str, command: str) -> None:
    """Print the table and write it beside the machine and every version; rows that are not measured anew stay."""
    table = Table("name", "ours", "other", "ratio", "unit", "pairs", "target")
    for row in rows:
        table.add_row(row.name, f"{row.ours:,.4g}", f"{row.other:,.4g}", f"{row.ratio:.3f}", *map(str, row[4:]))
    Console(width=160).print(table)
    path = RESULTS / file
    path.parent.mkdir(parents=True, exist_ok=True)
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    same = recorded.get("machine") == describe()
    kept = {row["name"]: row for row in recorded["rows"]} if same else {}
    kept |= {row.name: row._asdict() for row in rows}
    document = {"machine": describe(), "command": command, "rows": list(kept.values())}
    path.write_text(json.dumps(document, indent=1) + "\n")
