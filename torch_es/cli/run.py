"""A run from its config to its result: what `torch-es train` does once, and `torch-es sweep` for each trial."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from torch_es.cli import INTERRUPTED, config
from torch_es.cli.run_log import run_log
from torch_es.cli.video import record_apart
from torch_es.errors import WorkerError
from torch_es.loggers.progress import Terminal
from torch_es.loggers.protocol import opened
from torch_es.report.plotting import plot_runs
from torch_es.runs import commands
from torch_es.runs.folder import RunFolder
from torch_es.training.signals import exits
from torch_es.training.trainer import centre_metrics
from torch_es.types import CENTRE, EpisodeResult, Metrics

_log = logging.getLogger(__name__)

Callback = Callable[[Metrics], bool | None]


def run(
    settings: config.Config,
    folder: Path,
    resume: bool,
    callback: Callback | None = None,
    quiet: bool = False,
    origin: str = "",
) -> list[EpisodeResult]:
    """Train as `settings` say, in `folder`; return the last episodes of the centre.

    `callback` gets each generation's metrics, and training stops when it returns False. With `quiet`, neither progress
    nor result are printed. `origin` says where the settings of a new run come from; it goes to its log.
    """
    config.check_values(settings)
    loggers = config.build_loggers(settings)
    keeping = {"keep": settings["keep_checkpoints"], "on_save_error": settings["on_save_error"]}
    with config.build(settings) as es, RunFolder(folder, **keeping) as run_folder, run_log(folder):
        config.save_config(settings, folder)  # of a resumed run too: the next resume goes on as this one
        if origin:
            _log.info("Settings: %s.", origin)
        with exits(), _explained(folder, run_folder, settings), opened(loggers, settings, folder) as log:

            def logged(metrics: Metrics) -> bool | None:
                log(metrics)
                return None if callback is None else callback(metrics)

            es.learn(
                settings["total_timesteps"],
                logged,
                progress_bar=not quiet,
                folder=run_folder,
                resume=resume,
                checkpoint_every=settings["checkpoint_every"],
                max_seconds=settings["max_seconds"],
                reset_num_timesteps=False,
            )
            episodes = es.evaluate(settings["final_episodes"])
            es.close()
            result = centre_metrics(episodes)
            log({"global_step": float(es.trainer.total_timesteps), **result})
            _keep(folder / "summary.json", {"generation": es.strategy.generation, **result})
            if (folder / "metrics.jsonl").stat().st_size:  # a policy of the zoo has no rows before it trains on
                plot_runs([folder], folder / "curve.png")
            if not quiet:
                _say_result(folder, settings, episodes, es.trainer.total_timesteps)
            if settings["video"]:
                # before the loggers close, since one of them sends it
                video = record_apart(folder, *commands.imports(settings))
                if not quiet:
                    Terminal().print(f"video        {video}")
    return episodes


@contextlib.contextmanager
def _explained(folder: Path, run_folder: RunFolder, settings: config.Config) -> Iterator[None]:
    """Where training is stopped, say what is saved and how to go on, with the folder as the user wrote it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        code = stop.code if isinstance(stop, SystemExit) else INTERRUPTED
        signals = {str(128 + known): known.name for known in signal.Signals}
        by = signals.get(str(code), f"SystemExit({code!r})")  # an environment may exit too
        again = commands.resume(folder, *commands.modules(settings).values())
        how = f"`{again}` continues from generation {run_folder.saved or 0}"
        print(f"torch-es: stopped by {by}; {how}.", file=sys.stderr)
        raise
    except WorkerError as error:
        if error.task is None:
            raise
        t = error.task
        member = ["--episode", str(t.episode)] if t.member == CENTRE else ["--member", str(t.member)]
        again = commands.command(
            "replay", folder, "--generation", str(t.generation), *member, *commands.imports(settings)
        )
        raise WorkerError(f"{error}\n\nThis plays it again: {again}", t) from error


def _keep(path: Path, values: Metrics) -> None:
    staging = path.with_name(f".{path.name}.tmp")
    staging.write_text(json.dumps(values, indent=1) + "\n")
    os.replace(staging, path)  # a process killed here leaves no half of it


def _say_result(folder: Path, settings: config.Config, episodes: list[EpisodeResult], steps: int) -> None:
    """Print the result, and the commands that go on from it."""
    returns = [episode.return_ for episode in episodes]
    console = Terminal()
    console.print(
        f"\n[bold]{settings['env']['id']}[/]: centre return {np.mean(returns):,.1f} ± {np.std(returns):,.1f} "
        f"over {len(returns)} noise-free episodes",
        markup=True,
    )
    trusted, named = commands.imports(settings), commands.modules(settings).values()
    lines = {name: commands.command(name, folder, *trusted) for name in ("evaluate", "record")}
    lines["plot"] = commands.command("plot", folder)
    budget = 2 * int(settings["total_timesteps"])
    while budget <= steps:  # such as those of a run that a program extended
        budget *= 2
    lines["continue"] = commands.resume(folder, f"total_timesteps={budget}", *named)
    if not shutil.which("torch-es"):  # after `make train` the environment is not active
        ours = shlex.quote(os.path.relpath(Path(sys.executable).with_name("torch-es")))
        lines = {name: line.replace("torch-es", ours, 1) for name, line in lines.items()}
    lines = {"run folder": str(folder), **lines}
    console.print("\n".join(f"{name:<13}{line}" for name, line in lines.items()))
    if settings["video"]:
        console.print("recording a video of one episode ...")
