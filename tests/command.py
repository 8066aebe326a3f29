"""The command line, in this process or in one of its own."""

import io
import json
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from torch_es import cli

SMALL_RUN = ["env=cartpole", "strategy.num_pairs=2", "video=false", "evaluator.num_workers=0", "policy.hidden=[4]"]


def torch_es_process(*arguments, cwd):
    """Run the command as a user types it."""
    words = [sys.executable, "-m", "torch_es", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=cwd)


def torch_es(*arguments, cwd):
    """Run the command without the two seconds of an interpreter, where the process is not what is tested."""
    out, err = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    handlers, level, variables = root.handlers[:], root.level, dict(os.environ)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["torch-es", *arguments])
        patch.setattr(sys, "path", [*sys.path])
        try:
            code = cli.main(arguments)
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            root.handlers[:] = handlers  # Hydra has set its own
            root.setLevel(level)
            os.environ.clear()
            os.environ.update(variables)  # without the renderer that a film needs
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def logged(folder):
    """The rows of a run's metrics."""
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
