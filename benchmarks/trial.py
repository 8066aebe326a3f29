"""Try settings for a task, and keep what they reached in benchmarks/results/tuning.jsonl, whether it is good or not.

    python benchmarks/trial.py env=hopper env.tuned=null policy=linear strategy=ars seed=100

Trains the command line `torch-es WORDS` in one process. With `env.tuned=null`, the values that are tuned already have
no part in it. Seeds of trials start at 100, since the zoo's results have the small ones.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import RESULTS

from torch_es.cli import config
from torch_es.cli.run import run
from zoo import curve


def main(words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = config.compose_config([*words, "evaluator=serial", "video=false", f"run_dir={folder}/run"])
        start = time.process_time()
        returns = [episode.return_ for episode in run(settings, Path(folder) / "run", resume=False, quiet=True)]
        points = curve(Path(folder) / "run")
    row = {
        "words": " ".join(words),
        "return": round(float(np.mean(returns)), 2),
        "std": round(float(np.std(returns)), 2),
        "core_seconds": round(time.process_time() - start, 1),
        "curve": points,
    }
    with (RESULTS / "tuning.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print({key: value for key, value in row.items() if key != "curve"})


if __name__ == "__main__":
    main(sys.argv[1:])
