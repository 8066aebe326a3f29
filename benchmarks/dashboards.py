"""What dashboards cost: every metric to W&B (offline), TensorBoard and CSV beside a run that logs nowhere.

W&B's own process works beside the training: its CPU time counts, as a part of what the machine has.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pairs import Row, Side, alternate

from torch_es import ES
from torch_es.cli.config import build, build_loggers, compose_config
from torch_es.loggers import Logger

SPAN = 4  # generations of `make train` timed at a time
WORKERS = 2
_TICK = os.sysconf("SC_CLK_TCK")


def rows(pairs: int) -> Iterator[Row]:
    """Yield the share of a run that logging everything takes, and the run with over without."""
    config = compose_config(
        ["env=half_cheetah", "logger=all", "logger.mode=offline", f"evaluator.num_workers={WORKERS}"]
    )
    with tempfile.TemporaryDirectory() as folder, build(config) as es:
        _span(es, [])  # starts the workers
        workers, loggers = _children(), build_loggers(config)
        for logger in loggers:
            logger.start(config, Path(folder))
        _span(es, loggers)
        yield _share(es, loggers, _children() - workers, pairs)
        sides: list[tuple[Side, Side]] = [(lambda: _span(es, loggers)[0], lambda: _span(es, [])[0])] * pairs
        yield alternate("dashboards/HalfCheetah-v5 with over without", sides, "s", "<= 1.01")
        for logger in loggers:
            logger.close()


def _span(es: ES, loggers: list[Logger]) -> tuple[float, float]:
    """Play some generations; return the seconds of all, and of logging."""
    start, logging = time.perf_counter(), 0.0
    for _ in range(SPAN):
        metrics = es.trainer.run_generation(es.evaluator())
        played = time.perf_counter()
        for logger in loggers:
            logger.log(metrics)
        logging += time.perf_counter() - played
    return time.perf_counter() - start, logging


def _share(es: ES, loggers: list[Logger], services: set[int], pairs: int) -> Row:
    """Return the seconds of logging, here and in W&B's processes over all cores, over the seconds of the run."""
    cpu, whole, here = _cpu_seconds(services), 0.0, 0.0
    for _ in range(pairs):
        both = _span(es, loggers)
        whole, here = whole + both[0], here + both[1]
    spent = here + (_cpu_seconds(services) - cpu) / WORKERS
    each = 1e3 / (pairs * SPAN)
    print(f"logging {each * here:.2f} ms a generation here, {each * (spent - here):.2f} ms in W&B's process")
    return Row("dashboards/share of HalfCheetah-v5", spent * 1e3, whole * 1e3, spent / whole, "ms", pairs, "<= 0.01")


def _children() -> set[int]:
    """Return the processes below this one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            parents[int(entry.name)] = int(stat[1])
    found = {os.getpid()}
    for _ in parents:
        below = {pid for pid, parent in parents.items() if parent in found} - found
        if not below:
            break
        found |= below
    return found - {os.getpid()}


def _cpu_seconds(pids: set[int]) -> float:
    stats = [stat for pid in pids if (stat := _stat(pid))]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / _TICK


def _stat(pid: int) -> list[str] | None:
    """Return what stands after the name in a process's stat file; None once it has ended."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
