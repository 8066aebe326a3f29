"""The command `torch-es`: what there is, and the module that is imported for the one that runs."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence

import torch_es
from torch_es.checks import suggestion
from torch_es.errors import JobError, MissingExtraError, NonFiniteError, ResourceError, WorkerError

INTERRUPTED = 128 + signal.SIGINT
_FAILED = (JobError, WorkerError, NonFiniteError, ResourceError)
_IN_ONE_LINE = (TypeError, ValueError, MissingExtraError, *_FAILED)  # these need no traceback


COMMANDS = {  # the module of this package that holds the function, and the line in `--help`
    "train": ("train", "[GROUP=OPTION ...] [KEY=VALUE ...]", "train; --multirun for several runs"),
    "sweep": ("sweep", "[KEY=VALUE ...] [KEY=SPACE ...]", "search values with Optuna"),
    "evaluate": ("playing", "RUN", "play noise-free episodes of the centre"),
    "plot": ("plot", "RUN [RUN ...]", "draw curves, seeds of the same settings as one band"),
    "report": ("report", "RUN", "write one page with everything about a run"),
    "record": ("playing", "RUN", "record a video"),
    "replay": ("replay", "RUN --generation N", "rebuild a generation from the run's log, play a member"),
    "export": ("export", "RUN [--format pt2]", "write the policy as one ONNX or torch.export file"),
    "push": ("push", "RUN USER/NAME", "share the policy on the Hugging Face Hub"),
    "check-env": ("check_env", "ENV", "test whether episodes follow from their seeds"),
    "wandb-replay": ("wandb_replay", "RUN", "build a Weights & Biases run from the run's log"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."""
    logging.raiseExceptions = False  # no traceback for each line whose reader went away (`| head -1`)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python` does: a user's own modules most often lie here
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--version"]:
        print(f"torch-es {torch_es.__version__}")
        return 0
    try:
        name = given.pop(0) if given and _is_command(given[0]) else "train"
        module = importlib.import_module(f"{__name__}.{COMMANDS[name][0]}")
        getattr(module, name.replace("-", "_"))(given)
    except _IN_ONE_LINE as error:
        print(f"torch-es: {error}", file=sys.stderr)
        return 1 if isinstance(error, _FAILED) else 2
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # everything is saved; another Ctrl-C must not change the code
        return INTERRUPTED
    return 0


def _is_command(word: str) -> bool:
    """Return whether a word names a command; one that is not an override or an option either is refused."""
    if word in COMMANDS:
        return True
    if "=" in word or not word.isidentifier():
        return False
    tasks = importlib.import_module(f"{__name__}.config").options("env", [])
    near = f" Did you mean `env={word}`?" if word in tasks else suggestion(word, COMMANDS)
    raise ValueError(f"`{word}` is not a command.{near} An override looks like KEY=VALUE.")


def commands_help() -> str:
    """Return the lines of `--help` about the commands."""
    usages = {f"torch-es {name} {usage}": does for name, (_, usage, does) in COMMANDS.items()}
    width = max(map(len, usages)) + 2
    return "\n".join(f"  {usage:<{width}}{does}" for usage, does in usages.items())
