"""`torch-es replay`: rebuild any generation of a run from the returns in its log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from torch_es.cli import config
from torch_es.cli.playing import camera, run_parser, settings_of
from torch_es.cli.video import write_video
from torch_es.loggers.progress import Terminal
from torch_es.runs.replay_log import Record, digest
from torch_es.types import EpisodeResult, Task


def replay(arguments: list[str]) -> None:
    """Rebuild the theta of a generation from the run's log, without a checkpoint, and play a member or the centre."""
    parser = run_parser("replay", replay.__doc__)
    parser.add_argument(
        "--generation", type=int, required=True, help="the generation to be played next; 0 is the start"
    )
    parser.add_argument("--pair", type=int, help="play a member of this pair, instead of the centre")
    parser.add_argument("--sign", choices="+-", default="+", help="the member of the pair")
    parser.add_argument("--episode", type=int, default=0, help="the number of the centre's evaluation episode")
    parser.add_argument("--record", action="store_true", help="record the episode")
    parser.add_argument("--out", type=Path, help="save the generation as a checkpoint in this new folder")
    given = parser.parse_args(arguments)
    settings = settings_of(given)
    console = Terminal()
    frames, fps, factory = camera(settings["env"]) if given.record else ([], 0.0, None)
    settings["evaluator"] = {**settings["evaluator"], "num_workers": 0}
    with config.build(settings, factory) as es:
        logged = es.replay(given.run / "replay.log", given.generation)
        theta = es.strategy.centre.theta
        console.print(f"generation {given.generation}: theta {digest(theta).hex()}, as in the run")
        if given.pair is not None:
            pairs = es.strategy.centre.num_pairs if logged is None else len(logged.fitness)
            if not 0 <= given.pair < pairs:
                raise ValueError(
                    f"`--pair` must be from 0 to {pairs - 1} in generation {given.generation}, got {given.pair}."
                )
        if given.out:
            es.save(given.out)
        pair, sign = (-1, 0) if given.pair is None else (given.pair, 1 if given.sign == "+" else -1)
        numbers = range(es.trainer.rules.per_member) if sign else [given.episode]
        played = [es.play(Task(given.generation, pair, sign, number)) for number in numbers]
        same = _as_logged(es.trainer.rules.fitness(played), played, logged)
    steps = sum(episode.length for episode in played)
    console.print(f"return {np.mean([episode.return_ for episode in played]):,.6g} in {steps} steps{same}")
    if given.record:
        name = "centre" if given.pair is None else f"pair-{given.pair}{given.sign}"
        path = given.run / f"generation-{given.generation}-{name}.mp4"
        console.print(str(write_video(frames, path, fps)))


def _as_logged(fitness: float, played: Sequence[EpisodeResult], logged: Record | None) -> str:
    """Say whether a member's episodes are those that the run played."""
    task, steps = played[0].task, sum(episode.length for episode in played)
    if logged is None or not task.sign or task.pair >= len(logged.fitness):
        return ""
    member = task.pair, 0 if task.sign > 0 else 1
    if (fitness, steps) == (logged.fitness[member], logged.lengths[member]):
        return ", as in the run, bit for bit"
    return f"; in the run its fitness was {logged.fitness[member]:,.6g}, in {logged.lengths[member]} steps"
