"""`torch-es evaluate` and `record`: a run's centre in its environment."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from torch_es.cli import config
from torch_es.cli.out import add_out, out_file
from torch_es.cli.video import Frame, FrameRecorder, render_without_a_screen, write_video
from torch_es.envs import Env, env_factory
from torch_es.es import ES
from torch_es.loggers.progress import Terminal


def evaluate(arguments: list[str]) -> None:
    """Play noise-free episodes of a run's centre."""
    parser = run_parser(evaluate, best=True)
    parser.add_argument("--episodes", type=int, default=10)
    given = parser.parse_args(arguments)
    with load(given, best=given.best) as es:
        returns = [episode.return_ for episode in es.evaluate(given.episodes)]
    Terminal().print(f"centre return {np.mean(returns):,.1f} ± {np.std(returns):,.1f} over {len(returns)} episodes")


def record(arguments: list[str]) -> None:
    """Record an episode of a run's centre as video.mp4."""
    parser = run_parser(record)
    add_out(parser, "video.mp4")
    given = parser.parse_args(arguments)
    out = out_file(given.out, given.run, "video.mp4")
    if not out.suffix:
        raise ValueError(f"`--out` must have an ending, as film.mp4, got {out}.")
    settings = settings_of(given)
    frames, fps, factory = camera(settings["env"])
    with load(given, {"num_workers": 0, "num_lanes": 1}, factory) as es:
        frames.clear()  # what was played to make it
        es.evaluate(1)
    Terminal().print(str(write_video(frames, out, fps)))


def run_parser(command: Callable[[list[str]], None], best: bool = False) -> argparse.ArgumentParser:
    """Return the parser of a command about a run; with `best`, it may be about the run's best centre."""
    parser = argparse.ArgumentParser(f"torch-es {command.__name__}", description=command.__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument(
        "--import", dest="imports", metavar="MODULE", action="append", default=[],
        help="a module that the run's config.yaml names and that may be imported, which runs its code",
    )  # fmt: skip
    if best:
        parser.add_argument("--best", action="store_true", help="the best centre evaluated in training, not the last")
    return parser


def settings_of(given: argparse.Namespace) -> config.Config:
    """Return the config of the run that a command line names, if it imports only modules that this names too."""
    settings = config.load_config(given.run)
    config.check_imports(given.run, settings, given.imports)
    return settings


def load(
    given: argparse.Namespace, evaluator: dict[str, int] | None = None, factory: Any = None, best: bool = False
) -> ES:
    """Return the trainer of the run that a command line names; evaluator and factory replace those of its config."""
    settings = settings_of(given)
    settings["evaluator"] = evaluator or settings["evaluator"]
    return config.restored(given.run, settings, factory, best)


def camera(env: config.Config) -> tuple[list[Frame], float, partial[Env]]:
    """Return the list that frames go to, the frames a second, and a function that makes environments that fill it."""
    render_without_a_screen()
    frames: list[Frame] = []
    options, fps = _rendering(env["id"], env.get("kwargs", {}))
    return frames, fps, partial(_recorded, env["id"], options, frames)


def _rendering(env_id: str, kwargs: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Return the arguments with which an environment renders, and its frames a second."""
    env = env_factory(env_id, **kwargs)()
    env.close()
    return {**kwargs, "render_mode": "rgb_array"}, env.metadata.get("render_fps", 30)


def _recorded(env_id: str, options: dict[str, Any], frames: list[Frame]) -> Env:
    env = env_factory(env_id, **options)()
    simulated: Any = env.unwrapped
    if {getattr(simulated, name, "") for name in ("camera_name", "camera_id")} == {None}:
        # unless one is named, MuJoCo's camera stays put and the animal runs out of the picture (gymnasium 1.4)
        from mujoco import mj_name2id, mjtObj

        simulated.mujoco_renderer.camera_id = mj_name2id(simulated.model, mjtObj.mjOBJ_CAMERA, "track")
    return FrameRecorder(env, frames)
