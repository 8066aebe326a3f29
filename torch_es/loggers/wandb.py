"""Metrics in Weights & Biases, and at the end the curve, the video and the newest checkpoint."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch_es.errors import needs
from torch_es.loggers.names import Naming, named
from torch_es.types import Metrics

_BY_SIGNAL = 128  # exit codes above it name the signal
_VARIABLES = {  # environment variables that override an argument of `wandb.init`
    "project": "WANDB_PROJECT",
    "name": "WANDB_NAME",
    "group": "WANDB_RUN_GROUP",
    "mode": "WANDB_MODE",
    "dir": "WANDB_DIR",
    "id": "WANDB_RUN_ID",
    "resume": "WANDB_RESUME",
}


class WandbLogger:
    """Logs to Weights & Biases.

    W&B's own environment variables override these arguments, so that its agents and job scripts work.

    Args:
        project: Name of the project.
        name: Name of the run; by default that of its folder.
        group: Group of the run, for example for many seeds of one experiment.
        mode: "online", "offline", "disabled", or None for what `WANDB_MODE` says.
        run_id: W&B's id of the run; by default the id that is kept in the folder, so that a resumed run continues.
        naming: Names of the metrics: "sb3", "cleanrl" or "both".

    Raises:
        MissingExtraError: If wandb is not installed.
    """

    def __init__(
        self,
        project: str = "torch_es",
        name: str | None = None,
        group: str | None = None,
        mode: str | None = None,
        run_id: str | None = None,
        naming: Naming = "both",
    ) -> None:
        with needs("wandb"):
            import wandb
        self._wandb = wandb
        self._options: dict[str, Any] = {"project": project, "name": name, "group": group, "mode": mode, "id": run_id}
        self._naming = naming
        self._last: dict[str, float] = {}

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin the run."""
        self._folder = folder.resolve()  # W&B's service is a process with another working directory
        options = {**self._options, "dir": str(self._folder), "resume": "allow"}
        options["name"] = options["name"] or folder.name
        options["id"] = options["id"] or _kept_id(folder)
        options = {key: value for key, value in options.items() if not os.environ.get(_VARIABLES[key])}
        try:
            self._run = self._wandb.init(config=dict(config), **options)
        except self._wandb.errors.UsageError as error:  # no key, for the most part
            raise ValueError(
                f"Weights & Biases: {error} Without an account, WANDB_MODE=offline keeps the run here."
            ) from error
        # an x-axis of our own, because W&B silently drops rows whose step is not larger than the last
        self._run.define_metric("global_step")
        self._run.define_metric("*", step_metric="global_step")

    def log(self, metrics: Metrics) -> None:
        """Send a row."""
        self._last = dict(metrics)
        self._run.log(named(metrics, self._naming))

    def close(self, exit_code: int = 0) -> None:
        """Send the run's files and finish it; after a signal, mark it as preempted, so that W&B queues it again."""
        try:
            if exit_code == 0:
                self._send_pictures()
                self._send_checkpoint()
        finally:
            if exit_code > _BY_SIGNAL and exit_code != _BY_SIGNAL + signal.SIGINT:
                self._run.mark_preempting()
            self._run.finish(exit_code=exit_code)

    def _send_pictures(self) -> None:
        kinds = {self._folder / "curve.png": self._wandb.Image, self._folder / "video.mp4": self._wandb.Video}
        shown = {path.stem: kind(str(path)) for path, kind in kinds.items() if path.is_file()}
        if shown:
            step = {"global_step": self._last["global_step"]} if self._last else {}
            self._run.log({**shown, **step})

    def _send_checkpoint(self) -> None:
        """Send the newest checkpoint, which also holds the best centre; once downloaded, it is a run folder."""
        checkpoints = sorted((self._folder / "checkpoints").glob("generation-*"))
        if not checkpoints:
            return
        artifact = self._wandb.Artifact(f"checkpoint-{self._run.id}", type="model", metadata=self._last)
        artifact.add_dir(str(checkpoints[-1]), name=f"checkpoints/{checkpoints[-1].name}")
        if (self._folder / "config.yaml").is_file():
            artifact.add_file(str(self._folder / "config.yaml"))
        self._run.log_artifact(artifact, aliases=["latest", "best"])


def _kept_id(folder: Path) -> str:
    """Return the id kept in the folder; with it, W&B joins the offline parts of a resumed run when they are synced.

    The file also holds the folder that the id was made for. If that still has it, this folder is a copy: a run of its
    own, which must not write into the history of the first. Nor must a run in a folder without metrics.jsonl, as the
    current one is for `learn` without a folder.
    """
    kept, here = folder / ".wandb-id", folder.resolve()
    run_id, first = _read(kept)
    copied = _read(first / kept.name)[0] == run_id and not first.samefile(folder)
    if not run_id or copied or not (folder / "metrics.jsonl").is_file():  # F52
        run_id = secrets.token_hex(4)
    elif first == here:
        return run_id
    kept.write_text(f"{run_id}\n{here}")  # a moved folder can be copied too
    return run_id


def _read(kept: Path) -> tuple[str, Path]:
    """Return the id and the folder that a file holds; if there is no file, an empty id."""
    run_id, _, folder = kept.read_text().partition("\n") if kept.is_file() else ("", "", "")
    return run_id, Path(folder or kept.parent)
