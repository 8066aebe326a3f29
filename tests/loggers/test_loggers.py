"""One contract over every logger."""

import csv
import json
import sys

import pytest
from helpers import wandb_history, wandb_sent

from torch_es.errors import MissingExtraError
from torch_es.loggers import CsvLogger, JsonlLogger, TensorBoardLogger, WandbLogger
from torch_es.loggers.protocol import Guarded

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def jsonl_rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def csv_rows(folder):
    with (folder / "progress.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def tensorboard_rows(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload().Scalars("eval/mean_reward")
    return [{"global_step": event.step, "eval/mean_reward": event.value} for event in events]


def wandb_rows(folder):
    return [row for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")) for row in wandb_history(path)]


LOGGERS = {
    "jsonl": (JsonlLogger, jsonl_rows),
    "csv": (lambda: CsvLogger(naming="sb3"), csv_rows),
    "tensorboard": (TensorBoardLogger, tensorboard_rows),
    "wandb": (lambda: WandbLogger(mode="offline"), wandb_rows),
}


@pytest.mark.parametrize("name", LOGGERS)
def test_a_run_and_the_run_resumed_from_it_are_one_history(name, tmp_path, monkeypatch, caplog):
    make, rows = LOGGERS[name]
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    for steps in ((10.0, 20.0), (), (30.0,)):  # one that is stopped before its first row changes nothing
        logger = Guarded(make())
        logger.start({"seed": 1}, tmp_path)
        for step in steps:
            logger.log({"global_step": step, "eval/mean_reward": step / 4})
        logger.close()
        if name == "wandb":
            wandb_sent(tmp_path)
    found = [(row["global_step"], row["eval/mean_reward"]) for row in rows(tmp_path)]
    assert found == [(10, 2.5), (20, 5), (30, 7.5)]
    assert not caplog.records  # none was left out


@pytest.mark.parametrize("name", LOGGERS)
def test_one_that_fails_is_left_out_with_one_warning(name, caplog):
    logger = Guarded(LOGGERS[name][0]())
    for _ in range(3):
        logger.log({"global_step": 1.0})  # it was never started
    logger.close()
    (record,) = caplog.records
    assert "failed in log() and is not used any more; training goes on" in record.message


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_a_missing_extra_is_named(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"the extra `{name}`: pip install 'torch-evolution"):
        LOGGERS[name][0]()
