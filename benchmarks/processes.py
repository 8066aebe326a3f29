"""Runs in processes of their own, several side by side, that end when this one is told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_RUNNING: set[subprocess.Popen[bytes]] = set()


def yield_to_others() -> None:
    """Let other work of the machine come first; on SIGTERM end the runs, which have saved themselves, and this."""
    os.nice(10)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")  # Linux weighs sessions first, and nice within each alone
    signal.signal(signal.SIGTERM, _stop)


def run(words: Sequence[str], log: Path) -> tuple[int, float]:
    """Run `python WORDS` in one thread and append what it prints to `log`; return its exit code and core-seconds."""
    log.parent.mkdir(parents=True, exist_ok=True)
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # a second one of torch's would mostly wait, on a core
    with log.open("a") as file:
        process = subprocess.Popen([sys.executable, *words], stdout=file, stderr=file, env=one_thread)
        _RUNNING.add(process)
        _, status, usage = os.wait4(process.pid, 0)
        _RUNNING.remove(process)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def _stop(*_: object) -> None:
    for process in list(_RUNNING):
        process.terminate()
    os._exit(128 + signal.SIGTERM)
