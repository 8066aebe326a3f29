"""`torch-es replay`: rebuild any generation of a run from the returns in its log."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from torch_es.cli import config
from torch_es.cli.playing import camera, run_parser, settings_of
from torch_es.cli.video import write_video
from torch_es.loggers.progress import Terminal
from torch_es.runs.replay_log import Record, digest
from torch_es.types import CENTRE


def replay(arguments: list[str]) -> None:
    """Rebuild the theta of a generation from the run's log, without a checkpoint, and play a member or the centre."""
    parser = run_parser(replay)
    parser.add_argument("--generation", type=int, required=True, help="the generation to play next; 0 is the start")
    parser.add_argument("--member", type=int, default=CENTRE, help="play this member, instead of the centre")
    parser.add_argument("--episode", type=int, help="the number of the centre's evaluation episode")
    parser.add_argument("--record", action="store_true", help="record the episode")
    parser.add_argument("--out", type=Path, help="save the generation as a checkpoint in this new folder")
    given = parser.parse_args(arguments)
    if given.episode is not None and given.member != CENTRE:
        raise ValueError(f"`--episode` must be left out with `--member`, which plays all of its, got {given.episode}.")
    settings = settings_of(given)
    console = Terminal()
    frames, fps, factory = camera(settings["env"]) if given.record else ([], 0.0, None)
    settings["evaluator"] = {"num_workers": 0}
    with config.build(settings, factory) as es:
        logged = es.replay(given.run / "replay.log", given.generation)
        theta = es.strategy.theta
        console.print(f"generation {given.generation}: theta {digest(theta).hex()}, as in the run")
        members = len(es.strategy.ask()) if logged is None else logged.fitness.size
        if not CENTRE <= given.member < members:
            raise ValueError(
                f"`--member` must be from 0 to {members - 1} in generation {given.generation}, got {given.member}."
            )
        if given.out:
            es.save(given.out)
        numbers = [given.episode or 0] if given.member == CENTRE else range(es.trainer.rules.per_member)
        frames.clear()  # what was played before
        played = [es.play(given.member, number) for number in numbers]
        returns, lengths = np.array([e.return_ for e in played]), np.array([e.length for e in played])
        same = _as_logged(given.member, float(es.trainer.rules.fitness(returns, lengths)), int(lengths.sum()), logged)
    console.print(f"return {returns.mean():,.6g} in {lengths.sum()} steps{same}")
    if given.record:
        name = "centre" if given.member == CENTRE else f"member-{given.member}"
        path = given.run / f"generation-{given.generation}-{name}.mp4"
        console.print(str(write_video(frames, path, fps)))


def _as_logged(member: int, fitness: float, steps: int, logged: Record | None) -> str:
    """Say whether a member's episodes are those that the run played."""
    if logged is None or member == CENTRE or member >= logged.fitness.size:
        return ""
    own, length = logged.fitness[member], logged.lengths[member]
    if (fitness, steps) == (own, length):
        return ", as in the run, bit for bit"
    return f"; in the run its fitness was {own:,.6g}, in {length} steps"
