"""Learning: what `make train`'s budget reaches for five seeds, on HalfCheetah-v5 and InvertedPendulum-v5.

    python benchmarks/learning.py

Runs the command line exactly as a user does and writes benchmarks/results/learning.json. The results follow from the
seeds alone: the same versions and CPU type give the same returns, whatever the number of workers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import mean

from machine import RESULTS, describe

from torch_es.cli import config
from torch_es.cli.run import run
from torch_es.report.plotting import read_metrics

TARGETS = {"half_cheetah": 2500.0, "inverted_pendulum": 1000.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--overrides", nargs="*", default=[], help="as for torch-es; the table is then not written")
    given = parser.parse_args()
    rows = []
    for env, target in TARGETS.items():
        for seed in given.seeds:
            with tempfile.TemporaryDirectory() as folder:
                overrides = [f"env={env}", f"seed={seed}", f"run_dir={folder}/run", "video=false", *given.overrides]
                start = time.perf_counter()
                episodes = run(config.compose_config(overrides), Path(folder) / "run", resume=False)
                centre = mean(episode.return_ for episode in episodes)
                seconds = time.perf_counter() - start
                last = read_metrics(Path(folder) / "run")[-1]
            row = {"env": env, "seed": seed, "centre_return": centre, "target": target, "seconds": round(seconds, 1)}
            rows.append({**row, "timesteps": int(last["global_step"])})
            print(rows[-1], flush=True)
    if not given.overrides:
        document = {"machine": describe(), "command": "python benchmarks/learning.py", "rows": rows}
        (RESULTS / "learning.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
