"""Every fault of tests/faults injected, in a table: fault, tried, survived, lost.

    make faults        or        .venv/bin/python benchmarks/faults.py [FILE ...]

Written to benchmarks/results/faults.json; with some of the files, their faults' rows are written anew. A test named
after a fault passes only if the run ended as it would have without it, to the bit; one that fails counts as lost what
it tried.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from machine import RESULTS, describe
from rich.console import Console
from rich.table import Table

SUITE = Path(__file__).parent.parent / "tests" / "faults"
ELSEWHERE = [  # tests that carry a code and stand beside what they test
    f"{path}::{name}"
    for path in sorted(SUITE.parent.rglob("test_*.py"))
    if SUITE not in path.parents
    for name in re.findall(r"^def (test_F\d\d\w*)", path.read_text(), re.M)
]


class Counter:
    """Counts, from pytest's reports, what was tried and survived of each fault."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        name = report.nodeid.split("::")[-1]
        faults = set(re.findall(r"F\d\d", name)) or ["replay" if "replay" in report.nodeid else "other"]
        number = dict(report.user_properties).get("tried", 1)
        for fault in faults:
            row = self.rows.setdefault(fault, {"fault": fault, "tried": 0, "survived": 0, "lost": 0, "skipped": 0})
            if report.outcome == "skipped":
                row["skipped"] += 1
                continue
            row["tried"] += number
            row["survived" if report.outcome == "passed" else "lost"] += number


def main() -> int:
    counter = Counter()
    wanted = sys.argv[1:] or [str(SUITE), *ELSEWHERE]
    code = pytest.main(
        [*wanted, "-m", "slow or not slow", "--deselect", str(SUITE / "test_mutations.py")], plugins=[counter]
    )
    path = RESULTS / "faults.json"
    recorded = json.loads(path.read_text())["rows"] if sys.argv[1:] and path.is_file() else []
    found = {row["fault"]: row for row in recorded} | counter.rows
    rows = [found[fault] for fault in sorted(found)]
    table = Table("fault", "tried", "survived", "lost", "skipped")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=80).print(table)
    document = {"machine": describe(), "command": "make faults", "rows": rows}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
