"""Throughput: the share of the physics, peers, scaling over workers, the update, Atari; and what dashboards cost.

    make bench        or        .venv/bin/python benchmarks/throughput.py [--only physics peers ...] [--pairs 5]
    .venv/bin/python benchmarks/throughput.py --env Humanoid-v5 --pairs 3        its share of the physics alone

Both sides of a row run in one go, alternating. Each part's rows are written as it ends, to
benchmarks/results/throughput/PART.json, or with fewer than 5 pairs to throughput-part.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator

import atari
import dashboards
import peers
import physics
import update
from pairs import Row, publish

PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "physics": physics.rows,
    "steps": physics.step_rows,
    "scaling": physics.scaling_rows,
    "update": update.rows,
    "peers": peers.rows,
    "atari": atari.rows,
    "dashboards": dashboards.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="other rows stay as they are")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--env", choices=[case.env for case in physics.CASES], help="only its share of the physics")
    given = parser.parse_args()
    parts: Iterable[tuple[str, Iterable[Row]]] = ((part, PARTS[part](given.pairs)) for part in given.only)
    if given.env:
        parts = [("physics", [physics.share(case, given.pairs) for case in physics.CASES if case.env == given.env])]
    for part, rows in parts:
        file = f"throughput/{part}.json" if given.pairs >= 5 else "throughput-part.json"
        publish(list(rows), file, "python benchmarks/throughput.py")


if __name__ == "__main__":
    main()
