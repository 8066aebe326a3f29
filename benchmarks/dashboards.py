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
from physics import CASES, WORKERS, trainer

from torch_es import ES
from torch_es.config import build_loggers, compose_config
from torch_es.loggers import Logger

CASE = CASES[0]
_TICK = os.sysconf("SC_CLK_TCK")


def rows(pairs: int) -> Iterator[Row]:
    """Yield the share of a run that logging everything takes, and the run with over without."""
    config = compose_config(["logger=all", "logger.mode=offline"])
    with tempfile.TemporaryDirectory() as folder, trainer(CASE, CASE.env, WORKERS) as es:
        _generation(es, [])  # starts the workers
        workers, loggers = _children(), build_loggers(config)
        for logger in loggers:
            logger.start(config, Path(folder))
        _generation(es, loggers)
        yield _share(es, loggers, _children() - workers, pairs)
        sides: list[tuple[Side, Side]] = [(lambda: _generation(es, loggers)[0], lambda: _generation(es, [])[0])] * pairs
        yield alternate(f"dashboards/{CASE.env} with over without", sides, "s", "<= 1.01")
        for logger in loggers:
            logger.close()


def _generation(es: ES, loggers: list[Logger]) -> tuple[float, float]:
    """Play a generation; return the seconds of all, and of logging."""
    start = time.perf_counter()
    metrics = es.trainer.run_generation(es.evaluator())
    played = time.perf_counter()
    for logger in loggers:
        logger.log(metrics)
    end = time.perf_counter()
    return end - start, end - played


def _share(es: ES, loggers: list[Logger], services: set[int], pairs: int) -> Row:
    """Return the seconds of logging, here and in W&B's processes over all cores, over the seconds of the run."""
    cpu, whole, here = _cpu_seconds(services), 0.0, 0.0
    for _ in range(pairs):
        both = _generation(es, loggers)
        whole, here = whole + both[0], here + both[1]
    spent = here + (_cpu_seconds(services) - cpu) / WORKERS
    print(
        f"logging {1e3 * here / pairs:.2f} ms a generation here, {1e3 * (spent - here) / pairs:.2f} ms in W&B's process"
    )
    return Row(f"dashboards/share of {CASE.env}", spent * 1e3, whole * 1e3, spent / whole, "ms", pairs, "<= 0.01")


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
