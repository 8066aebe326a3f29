"""What a run leaves, however it ends."""

import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from helpers import Stepper

from torch_es import ES, mlp
from torch_es.errors import ResourceError
from torch_es.loggers import CsvLogger, JsonlLogger
from torch_es.runs import checkpoint
from torch_es.runs.folder import RunFolder
from torch_es.runs.replay_log import read


def trainer(**options):
    return ES(mlp(3, 1, (4,), seed=0), Stepper, num_pairs=2, num_workers=0, **options)


def until(number):
    return lambda metrics: metrics["time/iterations"] < number


def test_learn_starts_and_closes_its_loggers(tmp_path, monkeypatch):
    calls = []

    class Logger:
        def start(self, config, folder):
            calls.append(("start", config["strategy"], folder))

        def log(self, metrics):
            calls.append(("log", metrics["time/iterations"]))

        def close(self, exit_code=0):
            calls.append(("close", exit_code))

    monkeypatch.chdir(tmp_path)
    trainer().learn(1e6, until(2), loggers=[CsvLogger(), Logger()], folder=tmp_path / "r")
    assert calls == [("start", "openai_es", tmp_path / "r"), ("log", 1.0), ("log", 2.0), ("close", 0)]
    assert len((tmp_path / "r" / "progress.csv").read_text().splitlines()) == 3
    trainer().learn(10**6, until(1), loggers=[CsvLogger()])
    assert len((tmp_path / "progress.csv").read_text().splitlines()) == 2  # without a folder, in the current one
    calls.clear()
    with pytest.raises(ZeroDivisionError):
        trainer().learn(10**6, lambda metrics: 1 / 0, loggers=[Logger()])
    assert calls[-1] == ("close", 1)


def test_a_run_that_has_its_steps_says_so_and_how_to_go_on(tmp_path, caplog):
    trainer().learn(1000, folder=tmp_path / "r")
    assert not caplog.records
    es = trainer()
    es.learn(1000, folder=tmp_path / "r", resume=True)
    assert "`max_seconds`" not in caplog.text
    more = 1000 * (es.trainer.total_timesteps // 1000 + 1)
    assert (
        f"The run has {es.trainer.total_timesteps:,} steps and `total_timesteps` is 1,000: nothing was" in caplog.text
    )
    assert f"Give more, as total_timesteps={more:_}." in caplog.text


def test_any_exception_saves_the_last_whole_generation(tmp_path):
    def callback(metrics):
        if metrics["time/iterations"] == 3:
            raise KeyError("mine")

    es = trainer()
    with pytest.raises(KeyError, match="mine"):
        es.learn(10**6, callback, folder=tmp_path / "r", checkpoint_every=1000)
    saved = checkpoint.newest(tmp_path / "r" / "checkpoints")
    assert saved["generation"] == 3
    assert torch.equal(saved["strategy"]["theta"], es.strategy.theta)


def test_a_generation_that_is_cut_off_after_its_step_is_not_saved(tmp_path, monkeypatch):
    es = trainer()
    es.learn(10**6, until(1), folder=tmp_path / "r")
    monkeypatch.setattr(es.trainer, "_merge", lambda generation: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        es.learn(10**6, until(3), folder=tmp_path / "r", resume=True)
    assert checkpoint.newest(tmp_path / "r" / "checkpoints")["generation"] == 1


def test_an_optimiser_that_fails_in_the_middle_of_its_step_leaves_the_last_whole_generation(tmp_path):
    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            if fails:
                raise ArithmeticError("half way")

    fails = False
    es = trainer(optimizer=partial(Failing, lr=0.1, momentum=0.9))
    es.learn(10**6, until(1), folder=tmp_path / "r")
    fails = True
    with pytest.raises(ArithmeticError, match="half way"):
        es.learn(10**6, until(3), folder=tmp_path / "r", resume=True)
    saved = checkpoint.newest(tmp_path / "r" / "checkpoints")
    assert saved["generation"] == 1
    fails = False
    es.learn(10**6, until(3), folder=tmp_path / "r", resume=True)
    straight = trainer(optimizer=partial(Failing, lr=0.1, momentum=0.9)).learn(10**6, until(3))
    assert torch.equal(es.strategy.theta, straight.strategy.theta)


def test_a_scheduler_at_its_end_is_named_and_the_last_whole_generation_is_saved(tmp_path):
    schedule = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=3)
    es = trainer(optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9), scheduler=schedule)
    with pytest.raises(ValueError, match="`scheduler` cannot go on after generation 3: Tried to step 4 times"):
        es.learn(10**6, folder=tmp_path / "r", checkpoint_every=1000)
    assert checkpoint.newest(tmp_path / "r" / "checkpoints")["generation"] == 4
    weights = torch.nn.utils.parameters_to_vector(es.network.parameters())
    assert torch.equal(weights, es.strategy.theta)


@pytest.mark.parametrize("leave", [shutil.rmtree, lambda path: path.rename(path.with_name("moved"))])
def test_a_folder_that_is_deleted_or_moved_during_the_run_is_told_once_and_at_the_end_an_error(leave, tmp_path, caplog):
    def callback(metrics):
        if metrics["time/iterations"] == 2:
            leave(tmp_path / "r")
        return metrics["time/iterations"] < 4

    with pytest.raises(
        ResourceError, match="was deleted or moved during the run: it holds no rows, and the checkpoint"
    ):
        trainer().learn(10**6, callback, folder=tmp_path / "r", checkpoint_every=1e-9)
    assert caplog.text.count("was deleted or moved: rows are not written any more") == 1
    assert checkpoint.newest(tmp_path / "r" / "checkpoints")["generation"] == 4


def test_a_callback_that_changes_the_current_folder_does_not_move_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()

    def callback(metrics):
        os.chdir(tmp_path / "other")
        return metrics["time/iterations"] < 3

    trainer().learn(10**6, callback, folder="r", checkpoint_every=1e-9)
    assert checkpoint.newest(tmp_path / "r" / "checkpoints")["generation"] == 3
    assert not list((tmp_path / "other").iterdir())


def test_a_trainer_that_goes_back_to_an_earlier_run_says_so(tmp_path, caplog):
    es = trainer().learn(10**6, until(2), folder=tmp_path / "r")
    es.learn(10**6, until(4))
    assert "goes back" not in caplog.text
    es.learn(10**6, until(5), folder=tmp_path / "r", resume=True)
    assert f"is at generation 4, and goes back to the run in `{tmp_path / 'r'}`, which is at 2; what" in caplog.text


def test_rows_are_not_written_twice_into_a_folder(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"`loggers` must not hold a JsonlLogger with `folder`, whose metrics\.jsonl has"
    ):
        trainer().learn(10, folder=tmp_path / "r", loggers=[JsonlLogger()])
    assert not list(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    trainer().learn(10, loggers=[JsonlLogger()])
    trainer().learn(10, folder=tmp_path / "r", loggers=[CsvLogger()])


def test_any_call_may_be_in_inference_mode(tmp_path):
    es, resumed, network = trainer(), trainer(), mlp(3, 1, (4,))
    with torch.inference_mode():
        es.evaluate(1)
        es.learn(10**6, until(1), folder=tmp_path / "r")
        resumed.learn(10**6, until(2), folder=tmp_path / "r", resume=True)
    for number, tried in ((2, es), (3, resumed)):
        tried.learn(10**6, until(number))
    with torch.inference_mode():
        resumed.save(tmp_path / "s")
        loaded = ES.load(tmp_path / "s", network, Stepper, num_workers=0)
    loaded.learn(10**6, until(4))
    straight = trainer()
    straight.learn(10**6, until(4))
    assert torch.equal(loaded.strategy.theta, straight.strategy.theta)


@torch.inference_mode()
def test_a_module_made_in_inference_mode_is_refused():
    with pytest.raises(ValueError, match=r"`1\.weight` was made in `torch\.inference_mode\(\)`, so it cannot"):
        trainer()


def test_frames_are_counted_whatever_the_door():
    from torch_es.envs import repeated

    es = ES(mlp(3, 1, (4,)), repeated(Stepper, 3), num_pairs=2, num_workers=0)
    seen = []
    es.learn(10**6, lambda metrics: seen.append(metrics) or False)
    assert seen[0]["time/total_frames"] == 3 * seen[0]["time/total_timesteps"]


def test_a_callback_may_return_numpys_false():
    es = trainer().learn(1e6, lambda metrics: np.float64(metrics["time/iterations"]) < 3)
    assert es.strategy.generation == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loggers": ["csv"]}, TypeError, r"`loggers` must hold loggers, such as CsvLogger\(\), got 'csv'"),
        ({"checkpoint_every": "30"}, TypeError, "`checkpoint_every` must be a positive number, got '30'"),
        ({"checkpoint_every": -1}, ValueError, "`checkpoint_every` must be positive, got -1"),
    ],
)
def test_a_refused_call_leaves_no_run(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        trainer().learn(20, folder=tmp_path / "r", **options)
    trainer().learn(20, folder=tmp_path / "r", checkpoint_every=0)


def test_a_run_that_died_before_it_was_saved_has_the_log_of_the_one_that_follows(tmp_path):
    with RunFolder(tmp_path / "r") as folder:
        folder.open({"seed": 5}, 0, 8)
    trainer(seed=3).learn(20, folder=tmp_path / "r", resume=True)
    assert read(tmp_path / "r" / "replay.log")[0]["seed"] == 3
    trainer(seed=3).replay(tmp_path / "r" / "replay.log", 1)
