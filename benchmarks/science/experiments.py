"""All jobs, in the order in which they are worth their time."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import zoo
from science.baselines import Baseline
from science.evolution import Evolution
from science.jobs import Job
from science.update import Update
from torch_es.cli import config

TABLE1 = (
    "inverted_pendulum", "inverted_double_pendulum", "swimmer", "hopper", "half_cheetah", "walker2d",
)  # fmt: skip
PACE: dict[str, dict[str, Any]] = {
    "trpo": {"steps": 5_000_000, "every": 50_000},  # where Salimans et al. take TRPO's progress
    "sac": {"every": 2_000},  # it learns more from each step, and takes longer
}
LEAST = 60.0  # core-seconds of an algorithm in Table 1: ES may be done before another has begun
MINUTES = {  # tasks that ES learns in minutes, with long episodes, short ones, and until a fall: steps of ES, of PPO
    "swimmer": (1_000_000, 1_000_000),
    "reacher": (2_000_000, 300_000),
    "inverted_pendulum": (150_000, 200_000),
}
REPEATS = (1, 2, 3, 4)
NOISE = {  # task: steps, noise on actions
    "cartpole": (300_000, "sample"),
    "half_cheetah": (2_000_000, "gaussian:0.2"),
}
SIGMA = 0.02  # of noise on parameters, where it is compared with noise on actions
PLAIN = ("env.tuned=null", "strategy.num_pairs=32", "optimizer.lr=0.01")  # tuned is what noise on parameters needs
ATARI = (  # Boxing: no action alone wins anything there, as a game of Freeway is won by one
    "env=atari", "env.id=ALE/Boxing-v5", "policy=atari_cnn", "strategy.sigma=0.02", "strategy.num_pairs=16",
    "optimizer.lr=0.01", "episode.max_steps=members:500",
)  # fmt: skip
WHOLE = "episode.max_steps=null"  # a cap counts actions, not steps; and a cut episode would pay no delayed reward
ATARI_STEPS = 2_000_000
# of long tasks a part: Walker2d then walks, Humanoid stumbles on; 15 whole runs of Walker2d would take 12 core-hours
RANK_STEPS = {"walker2d": 3_000_000, "humanoid": 2_500_000}
BINS_STEPS = {"hopper": 1_000_000, "swimmer": 500_000}  # parts of their budgets, in which they learn
FEW, SEEDS = 3, 5
NAMES = {"es": "ES", "trpo": "TRPO", "ppo": "PPO", "ars": "ARS", "a2c": "A2C", "sac": "SAC"}


@cache
def env_id(task: str) -> str:
    """Return Gymnasium's id of a task.

    Example:
        >>> env_id("hopper")
        'Hopper-v5'
    """
    return config.tuned_envs()[task]


def table1_evolution() -> list[Job]:
    """ES on the six tasks of Table 1 of Salimans et al. 2017, with seeds that no trial of settings may use."""
    return [
        Job("table1", "es", task, zoo.seeds(task)[number], Evolution((f"env={task}",), points=100))
        for number in range(FEW)
        for task in TABLE1
    ]


def table1_baselines(algorithms: dict[str, int]) -> list[Job]:
    """Baselines on these tasks: TRPO for 5 million steps, the others for what ES took, or a minute."""
    evolved, made = table1_evolution(), []
    for algorithm, seeds in algorithms.items():
        for seed in range(seeds):
            for task in TABLE1:
                beside = tuple(job for job in evolved if job.task == task and algorithm != "trpo")
                work = Baseline(algorithm, env_id(task), core_seconds=LEAST, **PACE.get(algorithm, {}))
                made.append(Job("table1", algorithm, task, seed, work, beside))
    return made


def frame_skip() -> list[Job]:
    """An action held for 1 to 4 steps; the budget is of the environment's steps, so that all see as much of it."""
    made = []
    for seed in range(SEEDS):
        for task, (es_steps, ppo_steps) in MINUTES.items():
            for n in REPEATS:
                evolution = Evolution((f"env={task}", WHOLE), es_steps, repeat=n, points=20)
                made.append(Job("frame_skip", f"es_{n}", task, seed, evolution))
                baseline = Baseline("ppo", env_id(task), ppo_steps, repeat=n, every=ppo_steps // n // 20)
                made.append(Job("frame_skip", f"ppo_{n}", task, seed, baseline))
    return made


def noise() -> list[Job]:
    """Noise on the parameters, on the actions, on both: nothing else differs."""
    made = []
    for seed in range(SEEDS):
        for task, (steps, kind) in NOISE.items():
            for arm, (sigma, noise_on_actions) in {
                "parameters": (SIGMA, "null"), "actions": (0, kind), "both": (SIGMA, kind),
            }.items():  # fmt: skip
                words = (f"env={task}", *PLAIN, f"strategy.sigma={sigma}", f"policy.action_noise={noise_on_actions}")
                made.append(Job("noise", arm, task, seed, Evolution(words, steps)))
    return made


def bins() -> list[Job]:
    """Ten bins for each component of an action, as in the paper, beside continuous actions."""
    heads = {"continuous": "clip", "bins": "uniform:10"}
    return [
        Job("bins", arm, task, seed, Evolution((f"env={task}", f"policy.box_head={head}"), steps, points=20))
        for seed in range(SEEDS)
        for task, steps in BINS_STEPS.items()
        for arm, head in heads.items()
    ]


def rank() -> list[Job]:
    """Noise of low rank beside dense noise, with the tuned settings; a rank must be below both sides of a matrix."""
    arms = {"half_cheetah": (None, 1, 4), "hopper": (None, 1), "walker2d": (None, 1, 4), "humanoid": (None, 1, 4)}
    made = []
    for seed in range(SEEDS):
        for task, ranks in arms.items():
            for number in ranks:
                words = (f"env={task}", *([] if number is None else [f"strategy.rank={number}"]))
                work = Evolution(words, RANK_STEPS.get(task))
                made.append(Job("rank", "dense" if number is None else f"rank_{number}", task, seed, work))
    return made


def delayed() -> list[Job]:
    """The reward at the end of the episode alone; `frame_skip` has the same arms with a reward in each step."""
    made = []
    for seed in range(SEEDS):
        for task, (es_steps, ppo_steps) in MINUTES.items():
            evolution = Evolution((f"env={task}", WHOLE), es_steps, delayed=True, points=20)
            made.append(Job("delayed", "es", task, seed, evolution))
            baseline = Baseline("ppo", env_id(task), ppo_steps, delayed=True, every=ppo_steps // 20)
            made.append(Job("delayed", "ppo", task, seed, baseline))
    return made


def vbn() -> list[Job]:
    """The paper's network with and without virtual batch norm."""
    return [
        Job("vbn", arm, "boxing", seed, Evolution((*ATARI, f"policy.batch_norm={value}"), ATARI_STEPS, points=20))
        for seed in range(SEEDS)
        for arm, value in (("with", "true"), ("without", "false"))
    ]


def update() -> list[Job]:
    """The cost of one update."""
    return [
        Job("update", algorithm, f"{size}x{size}", seed, Update(algorithm, (size, size)))
        for seed in range(SEEDS)
        for size in (64, 256)
        for algorithm in ("es", "ppo")
    ]


def all_jobs() -> list[Job]:
    """Return all jobs in order."""
    return [
        *table1_evolution(),
        *table1_baselines({"trpo": FEW, "ppo": FEW}),
        *frame_skip(),
        *table1_baselines({"ars": 2, "a2c": 2, "sac": 2}),
        *noise(),
        *bins(),
        *rank(),
        *delayed(),
        *vbn(),
        *update(),
    ]


def names() -> list[str]:
    """Return the names of the experiments, in order."""
    return list(dict.fromkeys(job.experiment for job in all_jobs()))


def labels(experiment: str, job: Job) -> tuple[str, str]:
    """Return the row and the column of a job in the table of an experiment: its panel and its line in the figure.

    `delayed` also shows jobs of `frame_skip`, whose arms name the repeat of an action.
    """
    algorithm, _, repeat = job.arm.partition("_")
    if experiment == "frame_skip":
        return f"{job.task}, {NAMES[algorithm]}", f"repeat {repeat}"
    if experiment == "delayed":
        return f"{job.task}, {NAMES[algorithm]}", "in each step" if repeat else "at the end"
    return job.task, job.arm.replace("_", " ")


def smoke_jobs() -> list[Job]:
    """Return every arm once, on the first task and seed of its experiment, with a tiny budget."""
    first: dict[tuple[str, str], Job] = {}
    for job in all_jobs():
        first.setdefault((job.experiment, job.arm), job)
    return [_tiny(job) for job in first.values()]


def _tiny(job: Job) -> Job:
    beside = tuple(_tiny(other) for other in job.beside[:1])
    return dataclasses.replace(job, work=job.work.tiny(), beside=beside)
