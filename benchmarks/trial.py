"""Try settings for a task, and keep what they reached in benchmarks/results/tuning.jsonl, whether it is good or not.

    python benchmarks/trial.py env=hopper env.tuned=null policy=linear strategy=ars seed=200

Trains the command line `torch-es WORDS` in one process. With `env.tuned=null`, the values that are tuned already have
no part in it. A seed of the zoo's results for the task is refused: take one from 200 on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import RESULTS, describe
from settings import composed

from torch_es.cli import config
from torch_es.cli.run import run
from zoo import curve, seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="WORD", help="env=TASK seed=SEED, and what to try")
    words = parser.parse_args().words
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if missing := [name for name in ("env", "seed") if name not in given]:
        parser.error(f"say {' and '.join(f'{name}=...' for name in missing)}: a row has to tell what it is of")
    played = composed(*words)["env"]["id"]
    task = next((name for name, env_id in config.tuned_envs().items() if env_id == played), given["env"])
    if int(given["seed"]) in seeds(task):
        parser.error(f"seed={given['seed']} is one of the zoo's for {task}, on which nothing is tuned: take seed=200")
    torch.set_num_threads(1)  # as the zoo's runs have
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
        "machine": describe(),
        "curve": points,
    }
    with (RESULTS / "tuning.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print({key: value for key, value in row.items() if key not in ("curve", "machine")})


if __name__ == "__main__":
    main()
