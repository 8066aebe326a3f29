"""How long `import torch_es` takes beside `import torch`, each in a process of its own, alternating.

    .venv/bin/python benchmarks/import_time.py [--pairs 9]

Written to benchmarks/results/import_time.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from pairs import Side, alternate, publish

ROOT = Path(__file__).parent.parent


def seconds(module: str) -> float:
    """Start Python, import a module, end; return the wall-clock time."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    given = parser.parse_args()
    ours: Side = partial(seconds, "torch_es")
    other: Side = partial(seconds, "torch")
    ours(), other()  # compiled files, and the disk's cache
    row = alternate("import torch_es beside import torch", [(ours, other)] * given.pairs, "s", "<= 0.3 s more")
    publish([row], "import_time.json", "python benchmarks/import_time.py")


if __name__ == "__main__":
    main()
