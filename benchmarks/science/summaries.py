"""The tables of docs/science.md, each from the jobs of one experiment that have results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from science import curves
from science.experiments import NAMES, TABLE1, env_id, labels
from science.jobs import Job, Result


class Found(NamedTuple):
    """A job that has a result."""

    job: Job
    result: Result


def by(rows: Iterable[Found], **values: Any) -> list[Found]:
    """Return the rows whose jobs have these values, as `arm="es"`."""
    return [row for row in rows if all(getattr(row.job, name) == value for name, value in values.items())]


def curves_of(rows: Iterable[Found]) -> list[Any]:
    """Return their curves."""
    return [row.result["curve"] for row in rows]


def table1(rows: list[Found]) -> str:
    """Return Table 1 in steps and beside it in core-seconds, and on how many tasks ES costs a fifth."""
    titles = ("task", "seeds, TRPO/ES", "progress", "return")
    sides = ("TRPO steps", "ES steps", "ratio", "TRPO core-s", "ES core-s", "ratio")
    lines = [f"| {' | '.join([*titles, *sides])} |", "|" + "---|" * 10]
    cheap, compared, bounds = [], [], []
    for task in TABLE1:
        both = [by(rows, task=task, arm=arm) for arm in ("trpo", "es")]
        if not all(both):
            continue
        comparable = len({row.result["machine"]["processor"] for own in both for row in own}) == 1
        steps, cores = (curves.table1(*map(curves_of, both), axis) for axis in (curves.STEPS, curves.CORE))
        for step, core in zip(steps, cores, strict=True):
            beside = costs(core) if comparable else ["", "", "other processors"]
            seeds = "/".join(str(len(own)) for own in both)
            cells = [env_id(task), seeds, f"{step.share:.0%}", number(step.target), *costs(step), *beside]
            lines.append(f"| {' | '.join(cells)} |")
        if comparable and cores and cores[-1].first:
            bounds.append(task)
        elif comparable:
            compared.append(task)
            cheap += [task] if cores and cores[-1].ratio is not None and cores[-1].ratio <= 0.2 else []
    said = "There is no task yet whose core-seconds can be compared."
    if compared:
        said = (
            f"ES is at TRPO's final score in at most a fifth of its core-seconds on **{len(cheap)} of {len(compared)}**"
        )
        said += f" tasks{': ' * bool(cheap)}{', '.join(map(env_id, cheap))}."
    if bounds:
        said += f" Left out, since TRPO's cost is an upper bound: {', '.join(map(env_id, bounds))}."
    return "\n".join([*lines, "", said])


def costs(reached: curves.Reached) -> list[str]:
    """Return the cells of one comparison."""
    trpo = f"{'≤ ' if reached.first else ''}{number(reached.trpo.at)}"
    if reached.es is None:
        return [trpo, "not reached", ""]
    range_ = f"{reached.least:.2f} or more" if reached.first else f"{reached.least:.2f} to {reached.most:.2f}"
    return [trpo, number(reached.es.at), f"**{reached.ratio:.2f}** ({range_})"]


def scores(rows: list[Found]) -> str:
    """Return each algorithm's return on each task and its cost, and interquartile means across tasks."""
    lines = ["| task | algorithm | return (lowest seed) | seeds | steps | core-s | wall-clock s |", "|" + "---|" * 7]
    for task in TABLE1:
        for arm in NAMES:
            if own := by(rows, task=task, arm=arm):
                mean = {key: np.mean([r.result[key] for r in own]) for key in ("steps", "core_seconds", "wall_seconds")}
                cells = [env_id(task), NAMES[arm], cell(own), str(len(own))]
                lines.append(f"| {' | '.join([*cells, *map(number, mean.values())])} |")
    return "\n".join([*lines, "", *across(rows)])


def across(rows: list[Found]) -> list[str]:
    """Return the interquartile means of the share of TRPO's progress that each run made, over the tasks that all have.

    TRPO itself has none: its mean is 1.
    """
    arms = [arm for arm in NAMES if by(rows, arm=arm)]
    shared = [task for task in TABLE1 if all(by(rows, task=task, arm=arm) for arm in arms)]
    trpo = {task: [(c[0][curves.RETURN], c[-1][curves.RETURN]) for c in curves_of(by(rows, task=task, arm="trpo"))]
            for task in shared}  # fmt: skip
    learned = [task for task in shared if np.diff(np.mean(trpo[task], axis=0)) > 0]
    if not learned or "trpo" not in arms:
        return []
    lines = ["| algorithm | interquartile mean of the share of TRPO's progress | 95% |", "|---|---|---|"]
    for arm in arms:
        own = {task: np.array([row.result["return"] for row in by(rows, task=task, arm=arm)]) for task in learned}
        if arm != "trpo":
            mean, low, high = curves.interquartile_mean([(np.array(trpo[task]), own[task]) for task in learned])
            interval = "needs two seeds" if low is None else f"{low:.2f} to {high:.2f}"
            lines.append(f"| {NAMES[arm]} | **{mean:.2f}** | {interval} |")
    return [*lines, "", f"Over the tasks that all of them were run on: {', '.join(map(env_id, learned))}."]


def means(experiment: str, rows: list[Found]) -> str:
    """Return a table with the mean return and the lowest of each arm, over the seeds that there are."""
    cells: dict[str, dict[str, list[Found]]] = {}
    for row in rows:
        name, column = labels(experiment, row.job)
        cells.setdefault(name, {}).setdefault(column, []).append(row)
    columns = list(dict.fromkeys(column for line in cells.values() for column in line))
    lines = [f"| Mean return (lowest seed) | {' | '.join(columns)} | seeds |", "|---" * (len(columns) + 2) + "|"]
    for name, line in cells.items():
        # of the seeds that all have, since seeds differ more than what is compared
        shared = set.intersection(*({row.job.seed for row in own} for own in line.values()))
        of_all = {column: [row for row in own if row.job.seed in shared] for column, own in line.items()}
        shown = " | ".join(cell(of_all[column]) if of_all.get(column) else "" for column in columns)
        lines.append(f"| {name} | {shown} | {len(shared)} |")
    return "\n".join(lines)


def cell(rows: Sequence[Found]) -> str:
    """Return the mean and the lowest return."""
    returns = [row.result["return"] for row in rows]
    return f"**{number(np.mean(returns))}** ({number(min(returns))})"


def number(value: Any) -> str:
    """Return a return or a cost, with a decimal where one matters.

    Example:
        >>> number(0.127), number(-4.52), number(3350.2)
        ('0.13', '-4.5', '3,350')
    """
    decimals = 2 if abs(value) < 1 else 1 if abs(value) < 100 else 0
    return f"{value:,.{decimals}f}"


def update(rows: list[Found]) -> str:
    """Return what an update costs, as medians over the measurements."""
    titles = ("steps a core-second", "update, ms for 1,000 steps", "peak of an update, MiB", "stored episodes, KiB")
    lines = [f"| network | algorithm | {' | '.join(titles)} |", "|" + "---|" * 6]
    for task in dict.fromkeys(row.job.task for row in rows):
        for arm in ("es", "ppo"):
            if own := [row.result for row in by(rows, task=task, arm=arm)]:
                keys = {"steps_per_core_second": 1, "update_ms": 1, "peak_mib": 1, "stored_bytes": 1 / 1024}
                values = [np.median([result[key] for result in own]) * scale for key, scale in keys.items()]
                lines.append(f"| {task} | {NAMES[arm]} | {' | '.join(f'**{number(v)}**' for v in values)} |")
    return "\n".join(lines)
