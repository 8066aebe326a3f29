"""`torch-es wandb-replay`: one complete Weights & Biases run from a run's own log, whatever parts W&B already has."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from torch_es.cli import config
from torch_es.loggers import WandbLogger
from torch_es.loggers.progress import Terminal
from torch_es.report.plotting import read_metrics, read_result


def wandb_replay(arguments: list[str]) -> None:
    """Build a Weights & Biases run from a run's metrics.jsonl, with its curve, video and newest checkpoint."""
    parser = argparse.ArgumentParser("torch-es wandb-replay", description=wandb_replay.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--project", help="by default the run's own project, or torch_es")
    parser.add_argument("--group")
    parser.add_argument("--mode", choices=("online", "offline"), help="by default what WANDB_MODE says")
    given = parser.parse_args(arguments)
    settings, rows = config.load_config(given.run), read_metrics(given.run)
    saved = settings["logger"]
    logger = WandbLogger(
        project=given.project or saved.get("project") or "torch_es",
        group=given.group or saved.get("group"),
        mode=given.mode,
        # a new one: rows under the run's own id cannot be removed
        run_id=secrets.token_hex(4),
        naming=saved.get("naming", "both"),
    )
    logger.start(settings, given.run)
    for row in rows:
        logger.log(row)
    if result := read_result(given.run, rows):
        logger.log({"global_step": rows[-1]["global_step"], **result})
    logger.close()
    Terminal().print(f"{len(rows)} generations")
