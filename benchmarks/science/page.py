"""docs/science.md from whatever results there are: its tables between markers, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import markers
from machine import in_words
from settings import composed

from science import experiments, figures, summaries
from science.jobs import Job, Place
from science.summaries import Found

TEMPLATE = Place().docs / "science.md"
VERSIONS = ("torch", "gymnasium", "mujoco", "ale-py", "stable-baselines3", "sb3-contrib")


class About(NamedTuple):
    """What the page says of an experiment: what differs, its figure, and the head of a section that it writes itself.

    A section without a result would be empty, so it is not in the page.
    """

    differs: str
    figure: str = ""
    heading: str = ""
    text: str = ""


ABOUT = {
    "table1": About(
        "ES, TRPO, PPO, ARS, A2C, SAC",
        "Return against steps, core-seconds and wall-clock, for each task",
    ),
    "frame_skip": About(
        "ES and PPO, an action held for one to four steps",
        "Return against environment steps by action repeat, ES and PPO",
        "Frame skip",
        """\
An action is held for one to four steps. The announcement says that ES "works about equally well with any frame-skip".
The three tasks are ones that ES learns in minutes: Swimmer has long episodes, Reacher short ones, and an episode of
InvertedPendulum ends when the pole falls. For an algorithm and a task, every action repeat has the same budget of the
environment's own steps: see [the settings](#how-it-is-measured). ES has a part of its budget on Swimmer and Reacher,
and PPO a part of rl-zoo's million steps on Reacher and InvertedPendulum.

On InvertedPendulum, all runs of both end at 1,000, with every repeat. Both need longer the longer an action holds: with
four steps, the means of both rise and fall until the end of the budget. So this task shows no advantage of ES.""",
    ),
    "noise": About(
        "noise on parameters, on actions, on both",
        "Return against steps: noise on parameters, on actions, on both",
        "Noise on parameters and on actions",
        """\
The same network, optimiser and steps; only the place of the noise differs. See [Noise on actions](action-noise.md).""",
    ),
    "bins": About(
        "continuous actions, ten bins",
        "Return against steps: continuous actions and ten bins",
        "Bins",
        """\
Ten bins for each component of an action, which the paper uses on Hopper and Swimmer, beside continuous actions. The
settings were tuned with continuous actions, and bins may be behind for that reason. Both tasks have a part of their
budget: see [the settings](#how-it-is-measured).""",
    ),
    "rank": About(
        "dense noise, noise of rank 1 and of rank 4",
        "Return against steps: dense noise and noise of low rank",
        "Noise of low rank",
        """\
Noise `left.T @ right` on each matrix, in place of a number for each element (`strategy.rank=1`), with the tuned
settings. It is meant for large networks; see [large modules](large-models.md). Walker2d and Humanoid have a part of
their budget: see [the settings](#how-it-is-measured). Hopper's one matrix has a side of 3, so it has no rank 4.""",
    ),
    "delayed": About(
        "ES and PPO, the reward in each step or at the end",
        "Return against steps, with the reward in each step and at the end",
        "Delayed reward",
        """\
The tasks of the experiment on frame skip, with the sum of the rewards paid in the last step of an episode.

Without a cap or a reward shift, ES sees the sum of the rewards alone, so its runs are the same bits in both cases. PPO
learns almost nothing on InvertedPendulum if the reward comes at the end.""",
    ),
    "vbn": About(
        "with and without virtual batch norm",
        "Return against steps, with and without virtual batch norm",
        "Virtual batch norm",
        """\
The paper's network on Boxing, with and without virtual batch norm. Members play at most 500 steps. On Boxing no policy
that always takes the same action wins anything, whereas on Freeway such a policy is a good one.""",
    ),
    "update": About(
        "ES and PPO, what one update costs",
        heading="One update",
        text="""\
ES needs no backward pass. Of an episode it keeps the return, the length and the sums of the observations. The table
compares it with PPO, with the same network on HalfCheetah and one thread. PPO has a value function of the same size
besides, and both have the default settings of their library. The peak is what the process grows by while it plays and
updates.""",
    ),
}


def write(jobs: Sequence[Job], place: Place) -> Path:
    """Write the page and its figures; return the page."""
    place.docs.mkdir(parents=True, exist_ok=True)
    made = sections(jobs, place)
    page = place.docs / TEMPLATE.name
    page.write_text(markers.filled(TEMPLATE.read_text(), lambda name: made[name]()))
    for name, about in ABOUT.items():
        if about.figure and (rows := found(name, jobs, place)):
            figures.draw(name, rows, place.docs / f"science-{name}.png")
    return page


def sections(jobs: Sequence[Job], place: Place) -> dict[str, Callable[[], str]]:
    """Return what writes each table, by the name in its marker."""
    tables = {"table1": summaries.table1, "scores": summaries.scores, "update": summaries.update}
    tables |= {name: partial(summaries.means, name) for name in ABOUT if name not in tables}
    own = {f"science_{name}": partial(section, table, name, jobs, place) for name, table in tables.items()}

    def experiments_with_results() -> str:
        return "\n\n".join(
            f"## {about.heading}\n\n{about.text}\n\n{own[f'science_{name}']()}"
            for name, about in ABOUT.items()
            if about.heading and found(name, jobs, place)
        )

    whole = {"science_state": partial(state, jobs, place), "science_settings": settings}
    return {**whole, **own, "science_experiments": experiments_with_results}


def section(table: Callable[[list[Found]], str], name: str, jobs: Sequence[Job], place: Place) -> str:
    """Return a table, its figure, and where its numbers come from; a sentence if nothing was run yet."""
    experiment = "table1" if name == "scores" else name
    rows = found(experiment, jobs, place)
    if not rows:
        return f"Not run yet: `make reproduce ARGS={experiment}`."
    shown = [f"![{ABOUT[name].figure}](science-{name}.png)"] if name in ABOUT and ABOUT[name].figure else []
    return "\n\n".join([*shown, table(rows), origin(rows, experiment)])


def found(experiment: str, jobs: Sequence[Job], place: Place) -> list[Found]:
    """Return the jobs of an experiment that have results."""
    beside = "frame_skip" if experiment == "delayed" else None  # the same arms, with a reward in each step
    own = [job for job in jobs if job.experiment == experiment or (job.experiment == beside and job.arm.endswith("_1"))]
    rows = [Found(job, result) for job in own if (result := job.result(place))]
    return rows if any(row.job.experiment == experiment for row in rows) else []


def origin(rows: Sequence[Found], experiment: str) -> str:
    """Return the sentence that says where numbers come from."""
    days = sorted({row.result["date"] for row in rows})
    machines = {in_words(row.result["machine"], VERSIONS) for row in rows}
    hours = sum(row.result.get("core_seconds", 0) for row in rows) / 3600
    cost = f"{len(rows)} runs, {hours:,.1f} core-hours" if hours else f"{len(rows)} measurements"
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{cost}, {when}; {'; '.join(sorted(machines))}; `make reproduce ARGS={experiment}`."


def state(jobs: Sequence[Job], place: Place) -> str:
    """Return how many jobs of each experiment have results, and the command that runs the others."""
    lines = ["| experiment | what differs | runs | the rest |", "|---|---|---|---|"]
    for name in experiments.names():
        done = [job.done(place) for job in jobs if job.experiment == name]
        rest = "" if all(done) else f"`make reproduce ARGS={name}`"
        lines.append(f"| {name} | {ABOUT[name].differs} | **{sum(done)}** of {len(done)} | {rest} |")
    return "\n".join(lines)


def part(task: str, steps: int) -> str:
    """Return in words which part of a task's budget an experiment has."""
    return f"{task}: {steps:,} of {composed(f'env={task}')['total_timesteps']:,} steps"


def settings() -> str:
    """Return what the experiments set, besides what differs in them."""
    noise = (f"{steps:,} steps of {task} with noise `{kind}`" for task, (steps, kind) in experiments.NOISE.items())
    both = (f"{part(task, es)} of ES, {ppo:,} steps of PPO" for task, (es, ppo) in experiments.MINUTES.items())
    minutes = f"ES: `{experiments.WHOLE}`; {'; '.join(both)}"
    told = {
        "frame_skip": minutes,
        "noise": f"`{' '.join(experiments.PLAIN)}`, `strategy.sigma={experiments.SIGMA}`; {', '.join(noise)}",
        "bins": "; ".join(part(*each) for each in experiments.BINS_STEPS.items()),
        "rank": "; ".join(part(*each) for each in experiments.RANK_STEPS.items()),
        "delayed": minutes,
        "vbn": f"`{' '.join(experiments.ATARI)}`; {experiments.ATARI_STEPS:,} steps",
        "update": "ES: the defaults of `ES`; PPO: those of Stable-Baselines3",
    }
    return "\n".join(
        ["| experiment | what it sets |", "|---|---|", *(f"| {name} | {text} |" for name, text in told.items())]
    )
