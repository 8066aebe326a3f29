"""The command `torch-es`: train, evaluate, plot, record, replay."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from torch_es import checkpoint, config
from torch_es.envs import Env, env_factory
from torch_es.errors import MissingExtraError, NonFiniteError, ResourceError, WorkerError
from torch_es.es import ES
from torch_es.loggers import Guarded
from torch_es.plotting import plot_runs
from torch_es.progress import Terminal
from torch_es.replay_log import Record, digest
from torch_es.run_folder import RunFolder
from torch_es.types import EpisodeResult, Task
from torch_es.video import Frame, FrameRecorder, write_video

_INTERRUPTED = 128 + signal.SIGINT
_TOLD = (TypeError, ValueError, MissingExtraError, WorkerError, ResourceError)  # told in a line, without a traceback
_console = Terminal()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C; 143 SIGTERM."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given.pop(0) if given and given[0] in _COMMANDS else "train"
    try:
        _COMMANDS[command](given)
    except _TOLD as error:
        print(f"torch-es: {error}", file=sys.stderr)
        return 1 if isinstance(error, (WorkerError, NonFiniteError, ResourceError)) else 2
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is saved and ended; another Ctrl-C must not change the code
        return _INTERRUPTED
    return 0


def train(arguments: list[str]) -> None:
    """Compose with Hydra and train; once for each job of a multirun."""
    overrides = [a for a in arguments if not a.startswith("-")]
    config.check_overrides(overrides)
    sys.argv = ["torch-es", *arguments]
    failures: list[Exception] = []

    def job(composed: DictConfig) -> float:
        try:
            return _train_job(composed)
        except _TOLD as error:  # kept from Hydra, which would print more than a line and end a multirun's other jobs
            failures.append(error)
            return float("nan")

    hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="config")(job)()
    for failure in failures[1:]:
        print(f"torch-es: {failure}", file=sys.stderr)
    if failures:
        raise failures[0]


def _train_job(composed: DictConfig) -> float:
    settings = config.plain(composed)
    running = HydraConfig.get()
    if running.mode == RunMode.MULTIRUN and not any(o.startswith("run_dir=") for o in running.overrides.task):
        settings["run_dir"] += f"-{running.job.num}"  # jobs that differ in other values have the same name else
    if settings["resume"] is None:
        config.check_free(Path(settings["run_dir"]))
        return run(settings, Path(settings["run_dir"]), resume=False)
    if settings["resume"] == "auto":
        folder = config.find_run(settings)
        if folder is None:
            return run(settings, Path(settings["run_dir"]), resume=False)
    else:
        folder = Path(settings["resume"])
        overrides = [o for o in running.overrides.task if "=" in o and not o.startswith("resume=")]
        settings = config.changed(settings, overrides, config.load_config(folder))
    return run(config.resumed_config(folder, settings), folder, resume=True)


def run(settings: config.Config, folder: Path, resume: bool) -> float:
    """Train as `settings` say, in `folder`; returns the centre's mean return."""
    loggers = [Guarded(logger) for logger in config.build_loggers(settings)]
    keeping = {"keep": settings["keep_checkpoints"], "on_save_error": settings["on_save_error"]}
    with config.build(settings) as es, RunFolder(folder, **keeping) as run_folder:
        if not resume:
            config.save_config(settings, folder)
        with _told(run_folder, loggers):
            for logger in loggers:
                logger.start(settings, folder)
            es.learn(
                settings["total_timesteps"],
                progress_bar=True,
                loggers=loggers,
                folder=run_folder,
                resume=resume,
                checkpoint_every=settings["checkpoint_every"],
                max_seconds=settings["max_seconds"],
                reset_num_timesteps=False,
            )
        episodes = es.evaluate(settings["final_episodes"])
    plot_runs([folder], folder / "curve.png")
    video = "off (video=false)"
    if settings["video"]:
        _console.print("recording an episode of the centre ...")
        video = _record_apart(folder)
    return _summary(folder, settings, episodes, video)


@contextlib.contextmanager
def _told(run_folder: RunFolder, loggers: Sequence[Guarded]) -> Iterator[None]:
    """Close the loggers, and where training was stopped say what is saved, and how to go on."""
    code = 1
    try:
        yield
        code = 0
    except (KeyboardInterrupt, SystemExit) as stop:
        code = int(stop.code or 0) if isinstance(stop, SystemExit) else _INTERRUPTED
        how = f"`torch-es train resume={run_folder.path}` continues from generation {run_folder.saved or 0}"
        print(f"torch-es: stopped by {signal.Signals(code - 128).name}; {how}.", file=sys.stderr)
        raise
    except WorkerError as error:
        if error.task is not None:
            t = error.task
            member = f"--pair {t.pair} --sign {'+' if t.sign > 0 else '-'}" if t.sign else f"--episode {t.episode}"
            command = f"torch-es replay {run_folder.path} --generation {t.generation} {member}"
            raise WorkerError(f"{error}\n\nThis plays it again: {command}", t) from error
        raise
    finally:
        for logger in loggers:
            logger.close(code)


def _summary(folder: Path, settings: config.Config, episodes: list[EpisodeResult], video: str) -> float:
    returns = [episode.return_ for episode in episodes]
    mean, std = float(np.mean(returns)), float(np.std(returns))
    more = 2 * settings["total_timesteps"]
    # after `make train` the environment is not active, and the commands should work as they stand
    command = "torch-es" if shutil.which("torch-es") else os.path.relpath(Path(sys.executable).with_name("torch-es"))
    _console.print(
        f"\n[bold]{settings['env']['id']}[/]: centre return {mean:,.1f} ± {std:,.1f} "
        f"over {len(returns)} noise-free episodes\n"
        f"run folder   {folder}\n"
        f"video        {video}\n"
        f"evaluate     {command} evaluate {folder}\n"
        f"plot         {command} plot {folder}\n"
        f"record       {command} record {folder}\n"
        f"continue     {command} train resume={folder} total_timesteps={more}"
    )
    return mean


def evaluate(arguments: list[str]) -> None:
    """Play noise-free episodes of a run's centre."""
    parser = argparse.ArgumentParser("torch-es evaluate", description=evaluate.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--best", action="store_true", help="the best centre evaluated in training, not the last")
    parser.add_argument("--episodes", type=int, default=10)
    given = parser.parse_args(arguments)
    with _load(given.run, {}) as es:
        if given.best:
            es.trainer.restore_best()
        returns = [episode.return_ for episode in es.evaluate(given.episodes)]
    _console.print(f"centre return {np.mean(returns):,.1f} ± {np.std(returns):,.1f} over {len(returns)} episodes")


def plot(arguments: list[str]) -> None:
    """Draw the curves of runs over each other."""
    parser = argparse.ArgumentParser("torch-es plot", description=plot.__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="by default curve.png in the first run's folder")
    given = parser.parse_args(arguments)
    _console.print(str(plot_runs(given.runs, given.out or given.runs[0] / "curve.png")))


def record(arguments: list[str]) -> None:
    """Record an episode of a run's centre as video.mp4."""
    parser = argparse.ArgumentParser("torch-es record", description=record.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, help="by default video.mp4 in the run's folder")
    given = parser.parse_args(arguments)
    frames, fps, factory = _camera(config.load_config(given.run)["env"])
    with _load(given.run, {"num_workers": 0, "num_lanes": 1}, factory) as es:
        es.evaluate(1)
    _console.print(str(write_video(frames, given.out or given.run / "video.mp4", fps)))


def replay(arguments: list[str]) -> None:
    """Rebuild the theta of a generation from the run's log, without a checkpoint, and play a member or the centre."""
    parser = argparse.ArgumentParser("torch-es replay", description=replay.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--generation", type=int, required=True, help="which is to be played next; 0 is the start")
    parser.add_argument("--pair", type=int, help="play a member of this pair, instead of the centre")
    parser.add_argument("--sign", choices="+-", default="+", help="which of the pair's two members")
    parser.add_argument("--episode", type=int, default=0, help="which evaluation episode of the centre")
    parser.add_argument("--record", action="store_true", help="record the episode")
    parser.add_argument("--out", type=Path, help="save the generation as a checkpoint in this new folder")
    given = parser.parse_args(arguments)
    settings = config.load_config(given.run)
    frames, fps, factory = _camera(settings["env"]) if given.record else ([], 0.0, None)
    settings["evaluator"] = {**settings["evaluator"], "num_workers": 0}
    with config.build(settings, factory) as es:
        logged = es.replay(given.run / "replay.log", given.generation)
        theta = es.strategy.centre.theta
        _console.print(f"generation {given.generation}: theta {digest(theta).hex()}, as in the run")
        if given.out:
            es.save(given.out)
        pair, sign = (-1, 0) if given.pair is None else (given.pair, 1 if given.sign == "+" else -1)
        numbers = range(es.trainer.rules.per_member) if sign else [given.episode]
        played = [es.play(Task(given.generation, pair, sign, number)) for number in numbers]
        same = _as_logged(es.trainer.rules.fitness(played), played, logged)
    steps = sum(episode.length for episode in played)
    _console.print(f"return {np.mean([episode.return_ for episode in played]):,.6g} in {steps} steps{same}")
    if given.record:
        name = "centre" if given.pair is None else f"pair-{given.pair}{given.sign}"
        path = given.run / f"generation-{given.generation}-{name}.mp4"
        _console.print(str(write_video(frames, path, fps)))


def _as_logged(fitness: float, played: Sequence[EpisodeResult], logged: Record | None) -> str:
    """Say whether a member's episodes are those that the run played."""
    task, steps = played[0].task, sum(episode.length for episode in played)
    if logged is None or not task.sign or task.pair >= len(logged.fitness):
        return ""
    member = task.pair, 0 if task.sign > 0 else 1
    if (fitness, steps) == (logged.fitness[member], logged.lengths[member]):
        return ", as in the run, bit for bit"
    return f"; in the run its fitness was {logged.fitness[member]:,.6g}, in {logged.lengths[member]} steps"


def _camera(env: config.Config) -> tuple[list[Frame], float, partial[Env]]:
    """Return where frames go, how many there are a second, and what makes environments that leave them there."""
    frames: list[Frame] = []
    options, fps = _rendering(env["id"], env["kwargs"])
    return frames, fps, partial(_recorded, env["id"], options, frames)


def _rendering(env_id: str, kwargs: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Return what to make the environment with so that it renders, and its frames a second."""
    env = env_factory(env_id, **kwargs)()
    env.close()
    # unless named, MuJoCo's camera stays put and the animal runs out of the picture (gymnasium 1.4)
    camera = {"camera_name": "track"} if hasattr(env.unwrapped, "camera_name") else {}
    return {**camera, **kwargs, "render_mode": "rgb_array"}, env.metadata.get("render_fps", 30)


def _recorded(env_id: str, options: dict[str, Any], frames: list[Frame]) -> Env:
    return FrameRecorder(env_factory(env_id, **options)(), frames)


def _load(folder: Path, evaluator: dict[str, int], factory: Any = None) -> ES:
    settings = config.load_config(folder)
    settings["evaluator"] = {**settings["evaluator"], **evaluator}
    newest = checkpoint.newest(folder / "checkpoints")
    if newest is None:
        raise ValueError(f"`{folder}` holds no checkpoint yet.")
    es = config.build(settings, factory)
    es.restore(newest)
    return es


def _record_apart(folder: Path) -> str:
    """Record in a process of its own, since a broken OpenGL may take the process with it."""
    for backend in dict.fromkeys((os.environ.get("MUJOCO_GL", "egl"), "egl", "osmesa")):
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "torch_es", "record", str(folder)],
            env={**os.environ, "MUJOCO_GL": backend},
            capture_output=True,
            timeout=600,
            check=False,
        )
        if done.returncode == 0:
            return str(folder / "video.mp4")
    return "none: rendering needs torch-evolution[video], and MuJoCo OpenGL (Debian: apt install libegl1 or libosmesa6)"


_COMMANDS = {"train": train, "evaluate": evaluate, "plot": plot, "record": record, "replay": replay}
