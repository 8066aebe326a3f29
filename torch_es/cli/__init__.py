"""The command `torch-es`, a file a command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from torch_es.cli.check_env import check_env
from torch_es.cli.export import export
from torch_es.cli.playing import evaluate, record
from torch_es.cli.plot import plot
from torch_es.cli.push import push
from torch_es.cli.replay import replay
from torch_es.cli.report import report
from torch_es.cli.sweep import sweep
from torch_es.cli.train import INTERRUPTED, train
from torch_es.cli.wandb_replay import wandb_replay
from torch_es.errors import JobError, MissingExtraError, NonFiniteError, ResourceError, WorkerError

_COMMANDS = {
    "train": train, "sweep": sweep, "evaluate": evaluate, "plot": plot, "report": report, "record": record,
    "replay": replay, "export": export, "push": push, "check-env": check_env, "wandb-replay": wandb_replay,
}  # fmt: skip
_FAILED = (JobError, WorkerError, NonFiniteError, ResourceError)
_TOLD = (TypeError, ValueError, MissingExtraError, *_FAILED)  # told in a line, without a traceback


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C; 143 SIGTERM."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python` does: an environment's module most often lies here
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given.pop(0) if given and given[0] in _COMMANDS else "train"
    try:
        _COMMANDS[command](given)
    except _TOLD as error:
        print(f"torch-es: {error}", file=sys.stderr)
        return 1 if isinstance(error, _FAILED) else 2
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is saved and ended; another Ctrl-C must not change the code
        return INTERRUPTED
    return 0
