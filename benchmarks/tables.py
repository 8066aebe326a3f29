"""The measured tables of README.md and docs/, written from benchmarks/results so that none goes stale.

    .venv/bin/python benchmarks/tables.py

A test holds that what stands there is what this writes.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from comparison import table
from machine import RESULTS

ROOT = Path(__file__).parent.parent
DOCS = ("benchmarks", "networks", "action-noise", "atari", "logging")
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{n}.md" for n in DOCS)]
HEADINGS = {
    "physics": "Steps a second in training, over replaying the same actions with `env.step` alone",
    "steps": "Steps a second of the environment alone, one process, beside gymnasium's own",
    "peers": "Steps a second beside other libraries: same environment, network, population and cores",
    "scaling": "Two workers over one",
    "update": "The update: noise, gradient, optimiser step",
    "atari": "Pong with the paper's network and virtual batch norm",
    "dashboards": "Logging everything to W&B offline, TensorBoard and CSV over the run; the run with over without",
    "bytes per evaluation": "Bytes from worker to parent",
}


def throughput(parts: list[str]) -> str:
    recorded = _load("throughput.json")
    lines = []
    for part in parts:
        lines += [f"| {HEADINGS[part]} | torch_es | other | ratio | target | pairs |", "|---|---|---|---|---|---|"]
        for row in recorded["rows"]:
            kind, _, name = row["name"].partition("/")
            if kind == part:
                values = [f"{row[key]:,.4g}" if row[key] < 1000 else f"{row[key]:,.0f}" for key in ("ours", "other")]
                name = f"{name.replace('/', ', ')} ({row['unit']})"
                cells = [name, *values, f"**{row['ratio']:.3g}**", row["target"], str(row["pairs"])]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, f"Medians of alternating pairs, {_machine(recorded)}; `make bench`."])


def learning() -> str:
    recorded = _load("learning.json")
    rows = recorded["rows"]
    seeds = sorted({row["seed"] for row in rows})
    titles = " | ".join(f"seed {seed}" for seed in seeds)
    lines = [f"| Centre's return after `make train`'s budget | {titles} |", "|---|" + "---|" * len(seeds)]
    for env in dict.fromkeys(row["env"] for row in rows):
        returns = {row["seed"]: row["centre_return"] for row in rows if row["env"] == env}
        lines.append(f"| {env} | " + " | ".join(f"{returns[seed]:,.0f}" for seed in seeds) + " |")
    return "\n".join([*lines, "", f"Mean of 10 noise-free episodes, {_machine(recorded)}; `{recorded['command']}`."])


def binary() -> str:
    recorded = _load("binary.json")
    lines = ["| Mean return (lowest seed) | steps | float | binary | ratio | target | seeds |", "|" + "---|" * 7]
    for env in dict.fromkeys(row["env"] for row in recorded["rows"]):
        rows = [row for row in recorded["rows"] if row["env"] == env]
        returns = {name: [row[name] for row in rows] for name in ("float", "binary")}
        cells = [env, f"{rows[0]['timesteps']:,}", *(f"{mean(r):,.0f} ({min(r):,.0f})" for r in returns.values())]
        ratio = mean(returns["binary"]) / mean(returns["float"])
        lines.append(f"| {' | '.join(cells)} | **{ratio:.2f}** | >= 0.9 | {len(rows)} |")
    return "\n".join([*lines, "", f"20 noise-free episodes each, {_machine(recorded)}; `{recorded['command']}`."])


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
    cells = [f"{row['ours']:.2f}", f"{row['other']:.2f}", more, row["target"], str(row["pairs"])]
    table = ["| `import torch_es` (s) | `import torch` (s) | more | target | pairs |", "|" + "---|" * 5]
    where = f"Medians of alternating pairs, {_machine(recorded)}; `{recorded['command']}`."
    return "\n".join([*table, f"| {' | '.join(cells)} |", "", where])


def frame_skip() -> str:
    """A line a run: each return is the mean of the last three evaluations, which a single one would leave to luck."""
    lines = ["| Sweep | frame skip | seed | weight updates | centre's return at first | at the end |", "|" + "---|" * 6]
    sweeps: dict[str, Any] = _load("frame_skip.json")
    for name, sweep in sweeps.items():
        for run in sweep["rows"]:
            first, last = run["centre"][0], mean(run["centre"][-3:])
            lines.append(
                f"| {name} | {run['skip']} | {run['seed']} | {run['updates'][-1]} | {first:.1f} | {last:.1f} |"
            )
    commands = [f"{name}, {_machine(sweep)}:\n\n```text\n{sweep['command']}\n```" for name, sweep in sweeps.items()]
    return "\n\n".join(["\n".join(lines), "At the end: the mean of the last three evaluations.", *commands])


def experiment(name: str) -> str:
    recorded = _load(f"{name}.json")
    return "\n".join([table(recorded["rows"]), "", f"{_machine(recorded)}; `{recorded['command']}`."])


def _load(name: str) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return recorded


def _machine(recorded: dict[str, Any]) -> str:
    machine = recorded["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}, {versions}"


WHOLE = {
    "learning": learning,
    "binary": binary,
    "supervised": supervised,
    "lines": lines,
    "import_time": import_time,
    "frame_skip": frame_skip,
    "action_noise": partial(experiment, "action_noise"),
    "bins": partial(experiment, "bins"),
}


def filled(page: str) -> str:
    """Return the page with each table between its markers, `<!-- table NAME... -->` and `<!-- end -->`."""

    def written(match: re.Match[str]) -> str:
        names = match[1].split(", ")
        body = WHOLE[names[0]]() if names[0] in WHOLE else throughput(names)
        return f"<!-- table {match[1]} -->\n\n{body}\n\n<!-- end -->"

    return re.sub(r"<!-- table ([\w, ]+) -->.*?<!-- end -->", written, page, flags=re.S)


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(filled(each.read_text()))
