"""One contract over every logger."""

import csv
import json
import sys

import pytest
from helpers import wandb_history, wandb_sent

from torch_es.errors import MissingExtraError
from torch_es.loggers import CsvLogger, JsonlLogger, TensorBoardLogger, WandbLogger
from torch_es.loggers.protocol import opened

pytestmark = pytest.mark.filterwarnings("ignore")  # of the dashboards' own packages


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


class Broken:
    """A logger that fails in the call it is told."""

    def __init__(self, call):
        self.call = call

    def __getattr__(self, name):
        return self.fail if name == self.call else lambda *_: None

    def fail(self, *_):
        raise ConnectionError("no network")


@pytest.mark.parametrize("name", LOGGERS)
def test_a_run_and_its_resumed_part_are_one_history_whatever_fails_beside_it(name, tmp_path, monkeypatch, caplog):
    make, rows = LOGGERS[name]
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "metrics.jsonl").touch()  # as in the folder of a run
    for call, steps in (("start", (10.0, 20.0)), ("close", ()), ("log", (30.0,))):
        with opened([Broken(call), make()], {"seed": 1}, tmp_path) as log:
            for step in steps:
                log({"global_step": step, "eval/mean_reward": step / 4})
        if name == "wandb":
            wandb_sent(tmp_path)
    found = [(row["global_step"], row["eval/mean_reward"]) for row in rows(tmp_path)]
    assert found == [(10, 2.5), (20, 5), (30, 7.5)]
    told = [f"Broken failed in {call}() and is not used any more" for call in ("start", "close", "log")]
    ours = [record.message for record in caplog.records if record.name.startswith("torch_es")]  # W&B logs its own
    assert [message.split(";")[0] for message in ours] == told


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_a_missing_extra_is_named(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"the extra `{name}`: pip install 'torch-evolution"):
        LOGGERS[name][0]()
