"""Write the tables of README.md and docs/ from benchmarks/results, so that none goes stale.

    .venv/bin/python benchmarks/tables.py

A test checks that the pages hold what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import markers
from machine import RESULTS, in_words
from science.experiments import all_jobs
from science.jobs import Place
from science.page import sections

from torch_es.cli import config

ROOT = Path(__file__).parent.parent
DOCS = ("benchmarks", "cluster", "large-models", "zoo", "science", "networks", "action-noise", "atari", "logging")
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{n}.md" for n in DOCS)]
PLAYED = ("torch", "gymnasium", "mujoco", "ale-py")  # what a trained policy depends on
NAMED = ("torch", "gymnasium", "mujoco", "evotorch", "sb3-contrib", "ray")  # versions; the rest is in the JSON
SPEED = "Environment steps a second on 2 cores"
PARTS = {  # a table's title, and what its two columns of numbers are
    "physics": ("Environment steps a second, 2 workers", "training", "`env.step` alone"),
    "steps": ("Environment steps a second, one process, no policy", "torch_es's class", "gymnasium's class"),
    "scaling": ("Environment steps a second in training", "2 workers", "1 worker"),
    "peers": ("Environment steps a second, the same network, population and cores", "torch_es", "the other library"),
    "update": ("The update: noise, gradient and optimiser step", "the update", "compared with"),
    "atari": ("Pong with the paper's network and virtual batch norm", "torch_es", "compared with"),
    "dashboards": ("HalfCheetah-v5, logging to W&B offline, TensorBoard and CSV at once", "logging", "compared with"),
    "bytes per evaluation": ("Bytes a worker sends for each episode", "in all", "observation sums"),
}
LARGE = {  # what the columns of numbers are
    "update": ("dense noise", "rank 1"),
    "lanes": ("dense noise", "rank 1"),
    "physics": ("training", "`env.step` alone"),
    "memory": ("peak of memory, less the interpreter's", "module and float32 master, and `.grad` where there is one"),
}
WORDS = {  # of rows whose name alone does not say what is compared
    "evotorch GymNE/HalfCheetah-v5/2 workers": "evotorch's GymNE, HalfCheetah-v5",
    "evotorch GymNE/Hopper-v5/2 workers": "evotorch's GymNE, Hopper-v5",
    "sb3-contrib ARS AsyncEval/HalfCheetah-v5/2 workers": "ARS of sb3-contrib with AsyncEval, HalfCheetah-v5",
    "HalfCheetah-v5/2 workers over 1": "HalfCheetah-v5",
    "share of a HalfCheetah-v5 generation": "time in a HalfCheetah-v5 generation, and the whole generation",
    "1.74M parameters x 500 pairs": "time for 1.74M parameters and 500 pairs, and making the noise alone",
    "1.74M parameters x 500 pairs/peak over standing memory": "its peak of memory, and the parameters themselves",
    "ALE/Pong-v5/2 workers": "training, and stepping the game alone",
    "stepping": "time of a step spent in the game, of the whole",
    "network": "spent in the network",
    "a member's weights and statistics": "spent in making members' weights and statistics",
    "everything else": "spent in everything else",
    "network/one lane at a time": "the network, and the module itself",
    "network/channels_last": "the same, and the module in `channels_last`",
    "network/torch.compile": "the same, and `torch.compile`",
    "network/vmap of 1 lanes": "the same, and `vmap` over 1 lane",
    "network/vmap of 4 lanes": "the same, and `vmap` over 4 lanes",
    "network/vmap of 8 lanes": "the same, and `vmap` over 8 lanes",
    "evotorch GymNE, gymnasium's wrappers": "training, and evotorch's GymNE with gymnasium's wrappers",
    "evotorch GymNE, our environment": "training, and evotorch's GymNE with our environment",
    "share of HalfCheetah-v5": "time spent in logging, and the whole run",
    "HalfCheetah-v5 with over without": "the run with logging, and without",
}


def _measured(part: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the rows of a part of throughput: a name, the numbers, and the machine in words."""
    for path in sorted((RESULTS / "throughput").glob("*.json")):
        recorded = json.loads(path.read_text())
        for row in recorded["rows"]:
            kind, _, name = row["name"].partition("/")
            if kind == part:
                yield name, row, _machine(recorded)


def throughput(parts: list[str]) -> str:
    lines: list[str] = []
    machines: dict[str, list[str]] = {}
    pairs = 0
    for part in parts:
        lines += ["| " + " | ".join((*PARTS[part], "ratio")) + " |", "|---|---|---|---|"]
        for name, row, machine in _measured(part):
            unit = "" if PARTS[part][0].startswith(("Environment", "Bytes")) else f" ({row['unit']})"
            name = WORDS.get(name, name.replace("/2 workers", "").replace("/", ", "))
            lines.append(_cells(f"{name}{unit}", row["ours"], row["other"], f"**{row['ratio']:.3g}**"))
            machines.setdefault(machine, []).append(part)
            pairs = max(pairs, row["pairs"])  # what is no time is measured once
        lines.append("")
    return "\n".join([*lines, _medians(pairs, machines, "make bench")])


def speed() -> str:
    """The rows of README: training beside the physics alone, and beside other libraries."""
    lines = [f"| {SPEED} | torch_es | compared with | ratio |", "|---|---|---|---|"]
    machines: dict[str, list[str]] = {}
    for part in ("physics", "peers"):
        for name, row, machine in _measured(part):
            first, _, rest = name.removesuffix("/2 workers").partition("/")
            other = _number(row["other"])
            cells = (
                (f"{first}, {rest} network", row["ours"], f"{other}, `env.step` alone", f"**{row['ratio']:.2f}**")
                if part == "physics"
                else (rest, row["ours"], f"{other}, {first}", f"**{row['ratio']:.1f}**")
            )
            lines.append(_cells(*cells))
            machines.setdefault(machine, []).append(part)
    return "\n".join([*lines, "", _medians(row["pairs"], machines, "make bench")])


def _cells(*cells: object) -> str:
    return "| " + " | ".join(cell if isinstance(cell, str) else _number(cell) for cell in cells) + " |"


def _number(value: Any) -> str:
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _medians(pairs: int, parts: dict[str, list[str]], command: str) -> str:
    told = {"peers": "beside other libraries"}
    machines = {machine: [told.get(part, part) for part in own] for machine, own in parts.items()}
    return f"Medians of {pairs} measurements of each side in turn; {_by_machine(machines)}; `{command}`."


def zoo() -> str:
    """A line for each task: what its tuned settings reach, over seeds on which nothing was tuned."""
    lines = [
        "| Task | mean return | worst seed | seeds | environment steps | core-seconds | seconds | settings |",
        "|---" * 8 + "|",
    ]
    ran: dict[str, list[str]] = {}  # the tasks of each machine
    quiet: dict[str, list[str]] = {}  # and of each on which they were timed
    more = ""  # which tasks have more than ten final episodes
    ids, clocks = config.tuned_envs(), _load("wall_clock.json")
    for path in sorted((RESULTS / "zoo").glob("*.json")):
        recorded = json.loads(path.read_text())
        rows, clock = recorded["rows"], clocks["rows"].get(path.stem, {})
        env = ids[path.stem]
        tuned = dict(word.split("=", 1) for word in config.with_tuned([f"env={path.stem}"]))
        returns, costs = [row["return"] for row in rows], [cost for row in rows if (cost := row["core_seconds"])]
        cost = f"{mean(costs):,.0f}" if costs else "-"
        worst, steps = f"{min(returns):,.1f}", f"{mean(row['steps'] for row in rows) / 1e6:.2g} M"
        cells = [f"{mean(returns):,.1f}", worst, f"{len(rows)}{'' if len(rows) >= 5 else ' (indicative)'}", steps]
        took = "-"
        if clock.get("settings") == recorded["settings"]:
            took = f"{clock['seconds']:,.0f}"
            quiet.setdefault(in_words(clock["machine"], PLAYED), []).append(env)
        how = f"{tuned['policy']}, {tuned['strategy']}"
        if "final_episodes" in tuned:
            more += f" {env} has {tuned['final_episodes']}."
        lines.append(f"| {env} | **{cells[0]}** | {' | '.join(cells[1:])} | {cost} | {took} | {how} |")
        for machine in {in_words(row["machine"], PLAYED) for row in rows}:
            ran.setdefault(machine, []).append(env)
    told = [
        f"Return: the mean of 10 episodes without noise for each seed's policy.{more} Fewer than five seeds are "
        "indicative.",
        "Core-seconds: CPU time of all processes of a run, with its start and its evaluations; the mean over runs "
        f"whose whole cost is known. `make zoo` on {_by_machine(ran)}.",
        "Seconds: wall-clock of one run with nothing beside it, on another machine than the core-seconds in some rows. "
        f"`{clocks['command']}` on {_by_machine(quiet)}.",
    ]
    return "\n".join([*lines, "", *(f"- {each}" for each in told)])


def _by_machine(envs: dict[str, list[str]]) -> str:
    """Return the machines in words, the one with most tasks first, and the tasks of the others."""
    most, *rest = sorted(envs, key=lambda machine: -len(envs[machine])) or ["no machine yet"]
    return "; ".join([most, *(f"{', '.join(dict.fromkeys(envs[machine]))} on {machine}" for machine in rest)])


def gallery() -> str:
    """A film and a curve of each task."""
    lines = [
        "| Task | four seconds of the policy in `zoo/` | return without noise: mean and range of the seeds |",
        "|---|---|---|",
    ]
    ids = config.tuned_envs()
    for path in sorted((RESULTS / "zoo").glob("*.json")):
        env = ids[path.stem]
        film, curve = (
            f"![{what} of {env}](zoo/{path.stem}.{kind})" for what, kind in (("Film", "gif"), ("Curve", "png"))
        )
        lines.append(f"| `torch-es env={path.stem}` | {film} | {curve} |")
    return "\n".join(lines)


def binary() -> str:
    recorded = _load("binary.json")
    lines = ["| Mean return (lowest seed) | steps | float | binary | ratio | seeds |", "|" + "---|" * 6]
    for env in dict.fromkeys(row["env"] for row in recorded["rows"]):
        rows = [row for row in recorded["rows"] if row["env"] == env]
        returns = {name: [row[name] for row in rows] for name in ("float", "binary")}
        cells = [env, f"{rows[0]['timesteps']:,}", *(f"{mean(r):,.0f} ({min(r):,.0f})" for r in returns.values())]
        ratio = mean(returns["binary"]) / mean(returns["float"])
        lines.append(f"| {' | '.join(cells)} | **{ratio:.2f}** | {len(rows)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"20 episodes of each trained policy without noise, {_machine(recorded)}; `{recorded['command']}`.",
        ]
    )


def supervised() -> str:
    recorded = _load("supervised.json")
    sides = ("es", "backpropagation")
    lines = ["| Held-out accuracy, cost | ES | backpropagation | ratio | seeds |", "|" + "---|" * 5]
    for accuracy in dict.fromkeys(row["accuracy"] for row in recorded["rows"]):
        rows = [row for row in recorded["rows"] if row["accuracy"] == accuracy]
        for name, unit, form in (("passes", "forward passes", ",.0f"), ("seconds", "seconds", ".2g")):
            values = [f"{median(row[side][name] for row in rows):{form}}" for side in sides]
            ratio = median(row["es"][name] / row["backpropagation"][name] for row in rows)
            lines.append(f"| {accuracy:.0%}, {unit} | {' | '.join(values)} | **{ratio:.0f}** | {len(rows)} |")
    return "\n".join([*lines, "", f"Medians over seeds, {_machine(recorded)}; `{recorded['command']}`."])


def lines() -> str:
    recorded = _load("lines.json")
    rows = [f"| [{r['name']}](../benchmarks/lines/{r['file']}) | **{r['lines']}** |" for r in recorded["rows"]]
    table = ["| Train on my environment, log, evaluate, save, reload, plot | lines |", "|---|---|", *rows]
    return "\n".join([*table, "", f"Each was run: {_machine(recorded)}; `{recorded['command']}`."])


def import_time() -> str:
    recorded = _load("import_time.json")
    (row,) = recorded["rows"]
    more = f"**{row['ours'] - row['other']:+.2f}**"
    cells = [f"{row['ours']:.2f}", f"{row['other']:.2f}", more]
    table = ["| `import torch_es` (s) | `import torch` (s) | difference |", "|" + "---|" * 3]
    where = (
        f"Medians of {row['pairs']} measurements of each side in turn; {_machine(recorded)}; `{recorded['command']}`."
    )
    return "\n".join([*table, f"| {' | '.join(cells)} |", "", where])


def cluster() -> str:
    """What a cluster costs on one machine: a node, the driver, and the two ways of moving theta."""
    recorded = _load("cluster.json")
    rows = {row["name"]: row for row in recorded["rows"]}
    node = rows["node/HalfCheetah-v5/2 workers"]
    lines = ["| what | measured | beside it |", "|---|---|---|"]
    lines.append(_cells("steps/s, HalfCheetah-v5, one node with 2 workers", node["ours"],
                        f"{_number(node['other'])} with `evaluator=process`: **{node['ratio']:.3f}**"))  # fmt: skip
    lines.append(_cells("results/s that the training process takes, each with 5.6 KB of statistics",
                        rows["driver/results"]["ours"], "actors on 4 nodes answer at once"))  # fmt: skip
    lines.append(_cells("MiB of memory that the training process needs for 100,000 such results",
                        rows["driver/memory of 100,000 episodes"]["ours"], ""))  # fmt: skip
    for name, row in rows.items():
        if name.startswith("theta/"):
            lines.append(_cells(f"ms to send {name[6:]} to 2 nodes", row["ours"],
                                f"{_number(row['other'])} for a node to compute the update itself"))  # fmt: skip
    return "\n".join([*lines, "", f"{_machine(recorded)}; `{recorded['command']}`."])


def scaling() -> str:
    """What the simulation predicts, and how well it predicts real runs."""
    recorded = _load("scaling.json")
    lines = ["| episodes | workers | seconds of a generation | efficiency | at no cost |", "|---|---|---|---|---|"]
    for row in recorded["rows"]:
        if row["kind"] == "predicted":
            lines.append(_cells(row["stage"], f"{row['workers']:,}", row["seconds"] + row["update"],
                                f"**{row['efficiency']:.2f}**", f"{row['without_any_cost']:.2f}"))  # fmt: skip
    checks = [
        f"{row['stage']} episodes: {row['seconds']:.2f} s, predicted {row['predicted']:.2f} s"
        for row in recorded["rows"] if row["kind"] == "check"
    ]  # fmt: skip
    checked = f"64 sleeping workers on four real nodes took, with {'; '.join(checks)}."
    return "\n".join([*lines, "", checked, "", f"{_machine(recorded)}; `{recorded['command']}`."])


def large(part: str) -> str:
    """What noise of low rank and large modules cost."""
    recorded = _load("large.json")
    first, second = LARGE[part]
    lines = [f"| | {first} | {second} | ratio |", "|---|---|---|---|"]
    for row in recorded["rows"]:
        kind, _, name = row["name"].partition("/")
        if kind == part:
            cells = f"{name.removesuffix(', dense over rank 1').replace('/', ', ')} ({row['unit']})", row["ours"]
            lines.append(_cells(*cells, row["other"], f"**{row['ratio']:.3g}**"))
    return "\n".join([*lines, "", f"{_machine(recorded)}; `{recorded['command']}`."])


def large_gpu(heads: tuple[str, str], unit: str) -> str:
    """What generating and scoring take, for each device that it was measured on."""
    lines, machines = [f"| | {heads[0]} | {heads[1]} | ratio |", "|---|---|---|---|"], []
    for path in sorted(RESULTS.glob("large_gpu_*.json"), reverse=True):
        recorded = _load(path.name)
        rows = [row for row in recorded["rows"] if row["unit"] == unit]
        for row in rows:
            lines.append(_cells(f"{row['name'].replace('/', ', ')} ({unit})", row["ours"],
                                row["other"], f"**{row['ratio']:.3g}**"))  # fmt: skip
        if rows:
            machines.append(f"{_machine(recorded)}; `{recorded['command']}`.")
    return "\n".join([*lines, "", "\n\n".join(machines)])


def _load(name: str) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return recorded


def _machine(recorded: dict[str, Any]) -> str:
    return in_words(recorded["machine"], NAMED)


SCIENCE = sections(all_jobs(), Place())
WHOLE = {
    "speed": speed,
    "zoo": zoo,
    "gallery": gallery,
    "binary": binary,
    "supervised": supervised,
    "lines": lines,
    "import_time": import_time,
    "cluster": cluster,
    "cluster_scaling": scaling,
    **{f"large_{part}": partial(large, part) for part in LARGE},
    "large_gpu": partial(large_gpu, ("members in one call", "the other"), "tokens/s"),
    "large_gpu_memory": partial(large_gpu, ("a generation, one by one", "the module"), "MiB"),
    **SCIENCE,
}


def filled(page: str) -> str:
    """Return the page with its tables as they are now."""

    def written(name: str) -> str:
        names = name.split(", ")
        return WHOLE[names[0]]() if names[0] in WHOLE else throughput(names)

    return markers.filled(page, written)


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(filled(each.read_text()))
