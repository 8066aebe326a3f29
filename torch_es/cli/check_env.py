"""`torch-es check-env`: whether an environment can be trusted with a seed, before weeks are spent on it."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from torch_es.checks import check_count
from torch_es.cli import config
from torch_es.envs.check import Transcript, compare, objections
from torch_es.loggers.progress import Terminal
from torch_es.types import EpisodeResult, Task

_HERE = {"num_workers": 0, "num_lanes": 1}  # one lane, so that the environments play in the order of the tasks
# the ways to play the same episodes: where, whether each is played in a new environment, and what a difference means
_WAYS = {
    "in this process, each episode in a new environment": (_HERE, True, ""),
    "the same again": (_HERE, True,
        "Something random in it is not drawn from the seed of `reset`: a global generator, the clock, the hardware."),
    "in this process, one environment for all episodes": (_HERE, False,
        "`reset` leaves something of the episode before, so what a member gets depends on who played before it."),
    "in this process, four environments side by side": ({**_HERE, "num_lanes": 4}, True,
        "The environments of a process share something, such as a generator, a simulator or a file. Training plays "
        "several in each process; with `num_lanes=1` (evaluator.num_lanes=1) it plays one."),
    "in two other processes, each episode in a new environment": ({**_HERE, "num_workers": 2}, True,
        "It depends on the process: on what a module keeps globally, on the order of a set, on the process id."),
}  # fmt: skip


def check_env(arguments: list[str]) -> None:
    """Check an environment: by Gymnasium's own checker, and by playing the same seeds in several ways.

    The same parameters play in one process, one environment at a time and four side by side, and in two processes.
    Exit code 1 says that the checker refuses the environment, or that the ways differ.
    """
    parser = argparse.ArgumentParser("torch-es check-env", description=check_env.__doc__)
    parser.add_argument("env", help="a Gymnasium id, or one of torch-es's own options for env")
    words = "as for torch-es train, e.g. +env.kwargs.x=1"
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=words)
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000, help="cap of an episode's length")
    given = parser.parse_intermixed_args(config.with_search_path(arguments))
    check_count("episodes", given.episodes)
    known = given.env in config.options("env", given.overrides)
    # perturbed that much, policies act differently enough to get about in the environment
    own = [f"env={given.env}" if known else f"env.id={given.env}", "strategy.sigma=0.5"]
    settings = config.compose_config([*own, f"episode.max_steps={given.steps}", *given.overrides])
    tasks = [Task(0, 2 * pair, world=pair) for pair in range(given.episodes)]
    console = Terminal()
    refused, notes = objections(config.environments(settings["env"]))
    for note in notes:
        console.print(f"note     gymnasium's checker: {note}")
    if refused:
        console.print(f"refused  gymnasium's checker: {refused}")
    with tempfile.TemporaryDirectory() as folder:
        paths = {way: Path(folder) / str(number) for number, way in enumerate(_WAYS)}
        plays = {way: _play(settings, way, path, tasks) for way, path in paths.items()}
        usual, *others = _WAYS
        first, seeds = plays[usual]
        steps = sum(episode.length for episode in first)
        console.print(f"{settings['env']['id']}: {len(tasks)} episodes, {steps:,} steps\n         {usual}")
        differing = bool(refused)
        for way in others:
            found = compare(paths[usual], paths[way], seeds)
            differing |= bool(found)
            console.print(f"{'differs' if found else 'same   '}  {way}")
            if found:
                seed, what = next(iter(found.items()))
                returns = [f"{plays[w][0][seeds.index(seed)].return_:.6g}" for w in (usual, way)]
                console.print(f"         {len(found)} of {len(tasks)} episodes; with seed {seed}, {what}; "
                              f"return {' and '.join(returns)}\n         {_WAYS[way][2]}")  # fmt: skip
    if differing:
        raise SystemExit(1)


def _play(settings: config.Config, way: str, folder: Path, tasks: list[Task]) -> tuple[list[EpisodeResult], list[int]]:
    """Play the tasks, write the episodes to `folder`, and return them with their seeds."""
    folder.mkdir()
    where, fresh, _ = _WAYS[way]
    factory = partial(Transcript, config.environments(settings["env"]), folder, fresh)
    evaluator = {**where, "tolerance": settings["evaluator"].get("tolerance", {})}
    with config.build({**settings, "evaluator": evaluator}, factory) as es:
        episodes = es.trainer.play(es.evaluator(), tasks)
        return episodes, [es.trainer.rules.environment_seed(es.seed, task) for task in tasks]
