"""The zoo: train the tasks that have tuned settings, with seeds that nothing was tuned on, and keep what was trained.

    python benchmarks/zoo.py [TASK ...] [--seeds SEED ...] [--jobs 2]

Each run is the command `torch-es env=TASK seed=S evaluator=serial`, one process with one thread; `--jobs` of them run
side by side. A run that has a result is skipped, and one that was cut continues. Writes
benchmarks/results/zoo/TASK.json, and the best seed's policy to zoo/. A run's cost is the CPU time of all its processes,
in core-seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import processes
from machine import RESULTS, describe
from settings import composed, decisive, digest

from torch_es.cli import config
from torch_es.report.plotting import read_metrics

ROOT = Path(__file__).parent.parent
RUNS, ZOO = ROOT / "runs" / "zoo", ROOT / "zoo"
KEPT = ("config.yaml", "summary.json")
FEWER = {  # seeds, since a run is long
    "walker2d": 3, "humanoid_standup": 3, "pusher": 3, "bipedal_walker": 3, "frostbite": 3,
    "ant": 3, "humanoid": 2, "bipedal_walker_hardcore": 2,
}  # fmt: skip
# smaller seeds showed that earlier settings of these were not good enough, so they count as used for tuning
FIRST_SEED = {
    "acrobot": 40, "ant": 20, "bipedal_walker": 20, "half_cheetah": 20, "humanoid_standup": 10,
    "inverted_double_pendulum": 50, "mountain_car_continuous": 30, "pendulum": 40, "reacher": 20, "swimmer": 120,
}  # fmt: skip


def main() -> None:
    given = command_line(__doc__)
    processes.yield_to_others()
    wanted = [(task, seed) for task in given.tasks for seed in given.seeds or seeds(task)]
    failed = []
    with ThreadPoolExecutor(given.jobs) as pool:
        running = {pool.submit(trained, *job): job for job in wanted if job[1] not in rows(job[0])}
        for done in as_completed(running):
            task, seed = running[done]
            if error := done.exception():  # those that are still running shall be kept
                failed.append(f"{task}, seed {seed} failed: {error!r}")
                print(failed[-1], flush=True)
                continue
            row = done.result()
            write(task, row)
            keep_best(task)
            print(task, {key: value for key, value in row.items() if key not in ("curve", "machine")}, flush=True)
    if failed:
        sys.exit("\n".join(failed))


def command_line(description: str | None) -> argparse.Namespace:
    """Return what the command line asks for; gallery.py has the same one, since `make zoo` gives its words to both."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = f"by default all: {', '.join(tasks())}"
    parser.add_argument("tasks", type=tuned_task, nargs="*", metavar="TASK", default=tasks(), help=named)
    parser.add_argument("--seeds", type=int, nargs="+", help="some of the tasks' own seeds; by default all of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many run side by side")
    given = parser.parse_args()
    for task in given.tasks:
        if others := set(given.seeds or ()) - set(seeds(task)):
            own = ", ".join(map(str, seeds(task)))
            parser.error(f"settings of {task} may have been tuned on seed {min(others)}: its results are of {own}")
    return given


def tuned_task(name: str) -> str:
    """Return the name of a task, if there is one of this name; a type for argparse."""
    if name not in tasks():
        raise argparse.ArgumentTypeError(f"there are no tuned settings for {name}; there are for {', '.join(tasks())}")
    return name


def tasks() -> list[str]:
    """Return the names of all tasks that have tuned settings."""
    return list(config.tuned_envs())


def seeds(task: str) -> range:
    """Return the seeds of a task's results."""
    first = FIRST_SEED.get(task, 0)
    return range(first, first + FEWER.get(task, 5))


def settings_hash(task: str) -> str:
    """Return the hash of a task's settings; the first results had ten final episodes, which their hashes leave out."""
    settings, episodes = decisive(f"env={task}"), composed(f"env={task}")["final_episodes"]
    return digest(settings if episodes == 10 else {**settings, "final_episodes": episodes})


def rows(task: str) -> dict[int, dict[str, Any]]:
    """Return the results of a task with its present settings, by seed."""
    path = RESULTS / "zoo" / f"{task}.json"
    saved = json.loads(path.read_text()) if path.is_file() else {"settings": None}
    return {row["seed"]: row for row in saved["rows"]} if saved["settings"] == settings_hash(task) else {}


def trained(task: str, seed: int) -> dict[str, Any]:
    """Train one run, or continue it; return its row."""
    path = RUNS / task / f"{settings_hash(task)}-seed{seed}"
    words = [f"env={task}", f"seed={seed}", f"run_dir={path}", "resume=auto", "video=false", "evaluator=serial"]
    log, costs = path.with_suffix(".log"), path.with_suffix(".cost")  # a run that was cut has several starts and costs
    costs.parent.mkdir(parents=True, exist_ok=True)
    with costs.open("a") as file:
        file.write("start\n")
        file.flush()
        code, seconds = processes.run(["-m", "torch_es", *words], log)
        file.write(f"{seconds}\n")
    if code:
        raise RuntimeError(f"see {log}")
    summary = json.loads((path / "summary.json").read_text())
    return {
        "seed": seed,
        "return": summary["eval/mean_reward"],
        "std": summary["eval/std_reward"],
        "steps": int(read_metrics(path)[-1]["global_step"]),
        "core_seconds": total(costs.read_text().split()),
        "machine": describe(),
        "curve": curve(path),
    }


def curve(run: Path) -> list[list[float]]:
    """Return the evaluations of a run's centre: environment steps and mean return of each."""
    rows = read_metrics(run)
    return [[int(m["global_step"]), round(m["eval/mean_reward"], 2)] for m in rows if "eval/mean_reward" in m]


def total(costs: list[str]) -> float | None:
    """Return the sum of a run's costs, or None if this process was killed and did not learn one of them.

    Example:
        >>> total(["start", "1.5", "start", "2"]), total(["start", "start", "2"])
        (3.5, None)
    """
    known = [float(cost) for cost in costs if cost != "start"]
    return round(sum(known), 1) if len(known) == costs.count("start") else None


def write(task: str, row: dict[str, Any]) -> None:
    """Add a row to a task's results."""
    path = RESULTS / "zoo" / f"{task}.json"
    path.parent.mkdir(exist_ok=True)
    kept = {**rows(task), row["seed"]: row}
    document = {"command": f"python benchmarks/zoo.py {task}", "settings": settings_hash(task)}
    document["rows"] = [kept[seed] for seed in sorted(kept)]
    staging = path.with_suffix(".tmp")
    staging.write_text(json.dumps(document, indent=1) + "\n")
    staging.replace(path)


def folder(task: str) -> Path:
    """Return the folder of a task's trained policy."""
    return ZOO / config.tuned_envs()[task].replace("/", "-")


def keep_best(task: str) -> None:
    """Copy the run of the best seed to zoo/: its config, its last checkpoint and its result."""
    best = max(rows(task).values(), key=lambda row: row["return"])["seed"]
    source = RUNS / task / f"{settings_hash(task)}-seed{best}"
    if not source.is_dir():  # trained elsewhere
        return
    out = folder(task)
    shutil.rmtree(out, ignore_errors=True)
    newest = sorted((source / "checkpoints").iterdir())[-1]
    shutil.copytree(newest, out / "checkpoints" / newest.name)
    for name in KEPT:
        shutil.copy(source / name, out)


if __name__ == "__main__":
    main()
