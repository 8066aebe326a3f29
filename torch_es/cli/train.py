"""`torch-es train`, also what a bare `torch-es` does: compose with Hydra, train, and say what next."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from torch_es.cli import config
from torch_es.cli.run_log import run_log
from torch_es.errors import JobError, NonFiniteError, WorkerError
from torch_es.loggers import Guarded
from torch_es.loggers.progress import Terminal
from torch_es.report.plotting import plot_runs
from torch_es.runs.folder import RunFolder
from torch_es.training.trainer import centre_metrics
from torch_es.types import CENTRE, EpisodeResult, Metrics

Callback = Callable[[Metrics], bool | None]
INTERRUPTED = 128 + signal.SIGINT
_RECORDING = 600.0  # seconds for the video
_RENDERING = "rendering needs torch-evolution[video], and MuJoCo OpenGL (Debian: apt install libegl1 or libosmesa6)"
_console = Terminal()


def train(arguments: list[str]) -> None:
    """Compose with Hydra and train; once for each job of a multirun, of which those that fail end no other.

    Raises:
        ValueError: If the overrides make no config.
        JobError: If jobs of a multirun failed, once all are over.
    """
    config.check_overrides([a for a in arguments if not a.startswith("-")])
    # Hydra's parser wants its flag before the overrides, where no user looks for it
    sys.argv = ["torch-es", *sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))]
    failures: list[Exception] = []

    def job(composed: DictConfig) -> float:
        several = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            value = _train_job(composed)
            if several:
                check_objective(value)
            return value
        except Exception as error:  # kept from Hydra, which would print more than a line
            if several:
                number, changes = HydraConfig.get().job.num, " ".join(HydraConfig.get().overrides.task)
                failure = JobError(f"job {number} ({changes}) failed: {error}")
                print(f"torch-es: {failure}", file=sys.stderr)
                raise failure from error  # a sweeper must see it, from another process too, and goes on with the others
            failures.append(error)
            return math.nan

    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra would print errors and end the process itself
    try:
        hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(str(error)) from error
    if failures:
        raise failures[0]


def _train_job(composed: DictConfig) -> float:
    settings = config.plain(composed)
    running = HydraConfig.get()
    if running.mode == RunMode.MULTIRUN:
        _tell_apart(settings)
    if settings["resume"] is None:
        config.check_free(Path(settings["run_dir"]))
        return _run_and_tell(settings, Path(settings["run_dir"]), resume=False)
    if settings["resume"] == "auto":
        folder = config.find_run(settings)
        if folder is None:
            return _run_and_tell(settings, Path(settings["run_dir"]), resume=False)
    else:
        folder = Path(settings["resume"])
        overrides = [o for o in running.overrides.task if "=" in o and not o.startswith("resume=")]
        settings = config.changed(settings, overrides, config.load_config(folder))
    return _run_and_tell(config.resumed_config(folder, settings), folder, resume=True)


def _tell_apart(settings: config.Config) -> None:
    """Give a job of a multirun a folder of its own, and its loggers the multirun's name as their group."""
    running = HydraConfig.get()
    if not any(override.startswith("run_dir=") for override in running.overrides.task):
        settings["run_dir"] += f"-{running.job.num}"  # jobs that differ in other values have the same name else
    config.name_group(settings, Path(running.sweep.dir).name)


def check_objective(value: float) -> float:
    """Return what a run reached, for a search to compare.

    Raises:
        NonFiniteError: If it is no number to compare.
    """
    if not math.isfinite(value):
        raise NonFiniteError(f"The mean return of the centre's last episodes is {value}.")
    return value


def run(
    settings: config.Config, folder: Path, resume: bool, callback: Callback | None = None, progress_bar: bool = True
) -> tuple[list[EpisodeResult], str]:
    """Train as `settings` say, in `folder`; returns the centre's last episodes, and what became of the video.

    Args:
        settings: Of the run.
        folder: Where it is written.
        resume: Whether it goes on there.
        callback: Called with each generation's metrics; training stops when it returns False.
        progress_bar: Whether it is shown.
    """
    config.check_values(settings)
    loggers = [Guarded(logger) for logger in config.build_loggers(settings)]
    keeping = {"keep": settings["keep_checkpoints"], "on_save_error": settings["on_save_error"]}
    with config.build(settings) as es, RunFolder(folder, **keeping) as run_folder, run_log(folder):
        if not resume:
            config.save_config(settings, folder)
        with _told(run_folder, loggers):
            for logger in loggers:
                logger.start(settings, folder)
            es.learn(
                settings["total_timesteps"],
                callback,
                progress_bar=progress_bar,
                loggers=loggers,
                folder=run_folder,
                resume=resume,
                checkpoint_every=settings["checkpoint_every"],
                max_seconds=settings["max_seconds"],
                reset_num_timesteps=False,
            )
            episodes = es.evaluate(settings["final_episodes"])
            _keep(folder / "summary.json", {"generation": es.strategy.generation, **centre_metrics(episodes)})
            es.close()
            plot_runs([folder], folder / "curve.png")
            video = "off (video=false)"
            if settings["video"]:
                _console.print("recording an episode of the centre ...")
                video = _record_apart(folder)
    return episodes, video


def _run_and_tell(settings: config.Config, folder: Path, resume: bool) -> float:
    episodes, video = run(settings, folder, resume)
    return _summary(folder, settings, episodes, video)


@contextlib.contextmanager
def _told(run_folder: RunFolder, loggers: Sequence[Guarded]) -> Iterator[None]:
    """Close the loggers, and where training was stopped say what is saved, and how to go on."""
    code = 1
    try:
        yield
        code = 0
    except (KeyboardInterrupt, SystemExit) as stop:
        code = int(stop.code or 0) if isinstance(stop, SystemExit) else INTERRUPTED
        how = f"`torch-es train resume={run_folder.path}` continues from generation {run_folder.saved or 0}"
        print(f"torch-es: stopped by {signal.Signals(code - 128).name}; {how}.", file=sys.stderr)
        raise
    except WorkerError as error:
        if error.task is not None:
            t = error.task
            member = f"--episode {t.episode}" if t.member == CENTRE else f"--member {t.member}"
            command = f"torch-es replay {run_folder.path} --generation {t.generation} {member}"
            raise WorkerError(f"{error}\n\nThis plays it again: {command}", t) from error
        raise
    finally:
        for logger in loggers:
            logger.close(code)


def _keep(path: Path, values: Metrics) -> None:
    staging = path.with_name(f".{path.name}.tmp")
    staging.write_text(json.dumps(values, indent=1) + "\n")
    os.replace(staging, path)  # one that is killed here leaves no half


def _summary(folder: Path, settings: config.Config, episodes: list[EpisodeResult], video: str) -> float:
    returns = [episode.return_ for episode in episodes]
    mean, std = float(np.mean(returns)), float(np.std(returns))
    more = 2 * settings["total_timesteps"]
    # after `make train` the environment is not active, and the commands should work as they stand
    command = "torch-es" if shutil.which("torch-es") else os.path.relpath(Path(sys.executable).with_name("torch-es"))
    _console.print(
        f"\n[bold]{settings['env']['id']}[/]: centre return {mean:,.1f} ± {std:,.1f} "
        f"over {len(returns)} noise-free episodes"
    )
    _console.print(
        f"run folder   {folder}\n"
        f"video        {video}\n"
        f"evaluate     {command} evaluate {folder}\n"
        f"plot         {command} plot {folder}\n"
        f"record       {command} record {folder}\n"
        f"continue     {command} train resume={folder} total_timesteps={more}",
        markup=False,  # else torch-evolution[video] would lose its extra
    )
    return mean


def _record_apart(folder: Path) -> str:
    """Record in a process of its own, since a broken OpenGL may take the process with it; say where, or why not."""
    why = ""
    for backend in dict.fromkeys((os.environ.get("MUJOCO_GL", "egl"), "egl", "osmesa")):
        try:
            done = subprocess.run(  # noqa: S603 - our own command
                [sys.executable, "-m", "torch_es", "record", str(folder)],
                env={**os.environ, "MUJOCO_GL": backend},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_RECORDING,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"none: recording was given up after {_RECORDING:g} seconds"
        if done.returncode == 0:
            return str(folder / "video.mp4")
        why = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
        if why.startswith("torch-es: "):  # told by ourselves: another OpenGL would not help
            return f"none: {why.removeprefix('torch-es: ')}"
    return f"none: {why}; {_RENDERING}"
