"""How long `torch-es env=TASK` takes on quiet cores, for each task of the zoo.

    python benchmarks/wall_clock.py [TASK ...]

One run after the other, with a worker for each core, as a user's run has by default, and without its video. A task
that was timed with its present settings, on whatever processor, is skipped. No run is started while other work keeps a
core busy. Writes benchmarks/results/wall_clock.json. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import processes
from machine import RESULTS, describe

import zoo

ALLOWED = 0.2  # cores that other work may keep busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trained = [task for task in zoo.tasks() if zoo.rows(task)]
    named = "by default all that have a result in the zoo"
    parser.add_argument("tasks", type=zoo.tuned_task, nargs="*", metavar="TASK", default=trained, help=named)
    for task in parser.parse_args().tasks:
        if rows().get(task, {}).get("settings") != zoo.settings_hash(task):
            if (busy := busy_cores()) > ALLOWED:
                sys.exit(f"Other work keeps {busy:.1f} cores busy: stop it and run this again, to go on with {task}.")
            row = timed(task)
            write(task, row)
            print(task, row["seconds"], flush=True)


def rows() -> dict[str, dict[str, Any]]:
    """Return what was timed so far, by task."""
    path = RESULTS / "wall_clock.json"
    return json.loads(path.read_text())["rows"] if path.is_file() else {}


def busy_cores() -> float:
    """Return how many cores were busy in the last second."""

    def idle() -> int:
        return int(Path("/proc/stat").read_text().split(maxsplit=5)[4])

    before = idle()
    time.sleep(1)
    return (os.cpu_count() or 1) - (idle() - before) / os.sysconf("SC_CLK_TCK")


def timed(task: str) -> dict[str, Any]:
    """Train a task once; return its row."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"env={task}", f"seed={zoo.seeds(task)[0]}", f"run_dir={folder}/run", "video=false"]
        log, start = Path(folder) / "log", time.perf_counter()
        code, _ = processes.run(["-m", "torch_es", *words], log)
        seconds = time.perf_counter() - start
        if code:
            raise RuntimeError(f"{task} failed: {log.read_text()}")
    return {"settings": zoo.settings_hash(task), "seconds": round(seconds, 1), "machine": describe()}


def write(task: str, row: dict[str, Any]) -> None:
    """Add a row to the results."""
    path = RESULTS / "wall_clock.json"
    document = {"command": "python benchmarks/wall_clock.py", "rows": dict(sorted({**rows(), task: row}.items()))}
    staging = path.with_suffix(".tmp")
    staging.write_text(json.dumps(document, indent=1) + "\n")
    staging.replace(path)


if __name__ == "__main__":
    main()
