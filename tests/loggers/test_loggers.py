import sys

import pytest

from torch_es.loggers import TensorBoardLogger, WandbLogger

ROW = {
    "global_step": 50.0,
    "time/iterations": 1.0,
    "time/fps": 10.0,
    "rollout/ep_rew_mean": 1.5,
    "time/time_elapsed": 1.0,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_back_what_was_logged(tmp_path):
    logger = TensorBoardLogger()
    logger.start({}, tmp_path)
    logger.log(ROW)
    logger.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (event,) = events.Scalars("rollout/ep_rew_mean")
    assert (event.step, event.value) == (50, 1.5)


@pytest.mark.filterwarnings("ignore")
def test_wandb_runs_offline(tmp_path):
    logger = WandbLogger(mode="offline")
    logger.start({"seed": 1}, tmp_path)
    logger.log(ROW)
    logger.close()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize(("module", "make"), [("wandb", WandbLogger), ("torch.utils.tensorboard", TensorBoardLogger)])
def test_a_missing_extra_is_named(module, make, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="pip install 'torch-evolution"):
        make()
