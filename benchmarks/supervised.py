"""What ES costs where there is a gradient: examples/digits.py for five seeds, ES and backpropagation in turn.

    python benchmarks/supervised.py

Writes benchmarks/results/supervised.json, from which benchmarks/tables.py makes the table.
"""

from __future__ import annotations

import json
import sys

from machine import RESULTS, describe

sys.path.insert(0, str(RESULTS.parent.parent / "examples"))

import digits

METHODS = {"es": digits.by_es, "backpropagation": digits.by_backpropagation}


def main() -> None:
    for method in METHODS.values():
        digits.cost(method, 0.5, seed=0)  # the first call of anything is slow
    rows = []
    for target in (0.9, 0.95):
        for seed in range(5):
            names = list(METHODS) if seed % 2 else list(reversed(METHODS))
            costs = {name: digits.cost(METHODS[name], target, seed) for name in names}
            spent = {name: {"passes": passes, "seconds": seconds} for name, (passes, seconds) in costs.items()}
            rows.append({"accuracy": target, "seed": seed, **spent})
            print(rows[-1], flush=True)
    document = {"machine": describe(), "command": "python benchmarks/supervised.py", "rows": rows}
    (RESULTS / "supervised.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
