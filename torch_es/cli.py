"""The command `torch-es`: train, evaluate, plot, record."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from torch_es import checkpoint, config
from torch_es.envs import Env, env_factory
from torch_es.errors import MissingExtraError, NonFiniteError, WorkerError
from torch_es.es import ES
from torch_es.loggers import JsonlLogger
from torch_es.plotting import plot_runs
from torch_es.types import EpisodeResult
from torch_es.video import Frame, FrameRecorder, write_video

_TOLD = (TypeError, ValueError, MissingExtraError, WorkerError)  # told in a line, without a traceback
_console = Console(soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given.pop(0) if given and given[0] in _COMMANDS else "train"
    try:
        _COMMANDS[command](given)
    except _TOLD as error:
        print(f"torch-es: {error}", file=sys.stderr)
        return 1 if isinstance(error, (WorkerError, NonFiniteError)) else 2
    except KeyboardInterrupt:
        print("torch-es: interrupted; `torch-es train resume=RUN` continues from the last checkpoint.", file=sys.stderr)
        return 130
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
    if settings["resume"]:
        folder = Path(settings["resume"])
        changed = [o for o in HydraConfig.get().overrides.task if "=" in o and not o.startswith("resume=")]
        settings = config.plain(
            OmegaConf.merge(OmegaConf.create(config.load_config(folder)), OmegaConf.from_dotlist(changed))  # type: ignore[arg-type]
        )
        return run(settings, folder, resumed=True)
    return run(settings, Path(settings["run_dir"]), resumed=False)


def run(settings: config.Config, folder: Path, resumed: bool) -> float:
    """Train as `settings` say, in `folder`; returns the centre's mean return."""
    with config.build(settings) as es:
        loggers = config.build_loggers(settings)
        if resumed:
            _restore(es, folder)
        else:
            config.claim_folder(folder)
            config.save_config(settings, folder)
        loggers.insert(0, JsonlLogger())
        exit_code = 1
        for logger in loggers:
            logger.start(settings, folder)
        try:
            es.learn(
                settings["total_timesteps"],
                progress_bar=True,
                loggers=loggers,
                checkpoints=folder / "checkpoints",
                checkpoint_every=settings["checkpoint_every"],
                max_seconds=settings["max_seconds"],
                reset_num_timesteps=False,
            )
            exit_code = 0
        finally:
            for logger in loggers:
                logger.close(exit_code)
        episodes = es.evaluate(settings["final_episodes"])
    plot_runs([folder], folder / "curve.png")
    video = "off (video=false)"
    if settings["video"]:
        _console.print("recording an episode of the centre ...")
        video = _record_apart(folder)
    return _summary(folder, settings, episodes, video)


def _restore(es: ES, folder: Path) -> None:
    newest = checkpoint.latest(folder / "checkpoints")
    if newest is None:
        raise ValueError(f"`resume`: {folder} holds no checkpoint yet; start it anew.")
    es.restore(checkpoint.load(newest))
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    # rows of generations that the checkpoint does not know will be written again
    kept = [row for row in rows if json.loads(row)["time/iterations"] <= es.strategy.centre.generation]
    (folder / "metrics.jsonl").write_text("".join(kept))


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
    parser.add_argument("--episodes", type=int, default=10)
    given = parser.parse_args(arguments)
    with _load(given.run, {}) as es:
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
    frames: list[Frame] = []
    env = config.load_config(given.run)["env"]
    options, fps = _rendering(env["id"], env["kwargs"])
    factory = partial(_recorded, env["id"], options, frames)
    with _load(given.run, {"num_workers": 0, "num_lanes": 1}, factory) as es:
        es.evaluate(1)
    _console.print(str(write_video(frames, given.out or given.run / "video.mp4", fps)))


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
    newest = checkpoint.latest(folder / "checkpoints")
    if newest is None:
        raise ValueError(f"`{folder}` holds no checkpoint yet.")
    es = config.build(settings, factory)
    es.restore(checkpoint.load(newest))
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


_COMMANDS = {"train": train, "evaluate": evaluate, "plot": plot, "record": record}
