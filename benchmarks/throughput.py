"""Throughput: the share of the physics, peers, scaling over workers, the update, Atari.

    make bench        or        .venv/bin/python benchmarks/throughput.py [--only physics peers ...] [--pairs 5]
    .venv/bin/python benchmarks/throughput.py --env Humanoid-v5 --pairs 3        its share of the physics alone

Both sides of a row run in one go, alternating. Written to benchmarks/results/throughput.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import atari
import peers
import physics
import update
from pairs import Row, publish

PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "physics": physics.rows,
    "scaling": physics.scaling_rows,
    "update": update.rows,
    "peers": peers.rows,
    "atari": atari.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="then the file is not written")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--env", choices=[case.env for case in physics.CASES], help="only its share of the physics")
    given = parser.parse_args()
    if given.env:
        rows = [physics.share(case, given.pairs) for case in physics.CASES if case.env == given.env]
    else:
        rows = [row for part in given.only for row in PARTS[part](given.pairs)]
    whole = not given.env and given.only == list(PARTS) and given.pairs >= 5
    publish(rows, "throughput.json" if whole else "throughput-part.json", "python benchmarks/throughput.py")


if __name__ == "__main__":
    main()
