"""docs/science.md from whatever results there are: its tables between markers, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import markers
from machine import in_words

from science import experiments, figures, summaries
from science.jobs import Place
from science.summaries import Found

TEMPLATE = Place().docs / "science.md"
VERSIONS = ("torch", "gymnasium", "mujoco", "ale-py", "stable-baselines3", "sb3-contrib")
FIGURES = {
    "table1": "Return against steps, core-seconds and wall-clock, for each task",
    "frame_skip": "Return against environment steps by action repeat, ES and PPO",
    "noise": "Return against steps: noise on parameters, on actions, on both",
    "bins": "Return against steps: continuous actions and ten bins",
    "rank": "Return against steps: dense noise and noise of low rank",
    "delayed": "Return against steps, with the reward in each step and at the end",
    "vbn": "Return against steps, with and without virtual batch norm",
}


def write(place: Place) -> Path:
    """Write the page and its figures; return the page."""
    place.docs.mkdir(parents=True, exist_ok=True)
    made = sections(place)
    page = place.docs / TEMPLATE.name
    page.write_text(markers.filled(TEMPLATE.read_text(), lambda name: made[name]()))
    for name in FIGURES:
        if rows := found(place, name):
            figures.draw(name, rows, place.docs / f"science-{name}.png")
    return page


def sections(place: Place) -> dict[str, Callable[[], str]]:
    """Return what writes each table, by the name in its marker."""
    tables = {"table1": summaries.table1, "scores": summaries.scores, "update": summaries.update}
    tables |= {name: partial(summaries.means, name) for name in FIGURES if name not in tables}
    own = {f"science_{name}": partial(section, table, name, place) for name, table in tables.items()}
    return {"science_state": partial(state, place), **own}


def section(table: Callable[[list[Found]], str], name: str, place: Place) -> str:
    """Return a table, its figure, and where its numbers come from; a sentence if nothing was run yet."""
    experiment = "table1" if name == "scores" else name
    rows = found(place, experiment)
    if not rows:
        return f"Not run yet: `make reproduce ARGS={experiment}`."
    shown = [f"![{FIGURES[name]}](science-{name}.png)"] if name in FIGURES else []
    return "\n\n".join([*shown, table(rows), origin(rows, experiment)])


def found(place: Place, experiment: str) -> list[Found]:
    """Return the jobs of an experiment that have results."""
    jobs = [job for job in experiments.all_jobs() if job.experiment == experiment]
    if experiment == "delayed":  # beside the same arms with a reward in each step
        jobs = [j for j in experiments.frame_skip() if j.arm.endswith("_1")] + jobs
    return [Found(job, result) for job in jobs if (result := job.result(place))]


def origin(rows: Sequence[Found], experiment: str) -> str:
    """Return the sentence that says where numbers come from."""
    days = sorted({row.result["date"] for row in rows})
    machines = {in_words(row.result["machine"], VERSIONS) for row in rows}
    hours = sum(row.result.get("core_seconds", 0) for row in rows) / 3600
    cost = f"{len(rows)} runs, {hours:,.1f} core-hours" if hours else f"{len(rows)} measurements"
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{cost}, {when}; {'; '.join(sorted(machines))}; `make reproduce ARGS={experiment}`."


def state(place: Place) -> str:
    """Return how many jobs of each experiment have results, and the command that runs the others."""
    lines = ["| experiment | what differs | runs | the rest |", "|---|---|---|---|"]
    for name in experiments.names():
        jobs = [job for job in experiments.all_jobs() if job.experiment == name]
        missing = [job for job in jobs if not job.file(place).is_file()]
        arms = ", ".join(dict.fromkeys(job.arm for job in jobs))
        rest = f"`make reproduce ARGS={name}`" if missing else ""
        lines.append(f"| {name} | {arms} | **{len(jobs) - len(missing)}** of {len(jobs)} | {rest} |")
    return "\n".join(lines)
