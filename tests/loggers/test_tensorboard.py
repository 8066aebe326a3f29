import pytest

from torch_es.loggers import TensorBoardLogger

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def log(folder, steps, offset=0.0, config=None, generation=True):
    logger = TensorBoardLogger(naming="cleanrl")
    logger.start(config or {}, folder)
    for step in steps:
        own = {"time/iterations": step} if generation else {}
        logger.log({"global_step": float(step), **own, "eval/mean_reward": step + offset})
    logger.close()


def accumulator(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    return events.Reload()


def test_a_resumed_run_is_one_curve(tmp_path):
    log(tmp_path, (10, 20, 30, 40))
    log(tmp_path, (30, 40, 50), offset=0.5)  # killed after 40, resumed from 20
    scalars = accumulator(tmp_path).Scalars("charts/eval_episodic_return")
    assert [(s.step, s.value) for s in scalars] == [(10, 10), (20, 20), (30, 30.5), (40, 40.5), (50, 50.5)]


def test_the_config_is_in_the_table_of_hyperparameters(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    log(tmp_path, (10,), config={"seed": 3, "optimizer": {"name": "Adam", "lr": 0.5}, "resume": None})
    content = accumulator(tmp_path).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["optimizer.lr"].number_value == 0.5
    assert values["optimizer.name"].string_value == "Adam"
    assert values["seed"].number_value == 3
    assert values["resume"].string_value == "None"


def test_a_result_that_comes_again_hides_no_generation(tmp_path):
    log(tmp_path, (10, 20))
    log(tmp_path, (20,), offset=0.5, generation=False)  # nothing was left to learn
    scalars = accumulator(tmp_path).Scalars("charts/eval_episodic_return")
    assert [(s.step, s.value) for s in scalars] == [(10, 10), (20, 20), (20, 20.5)]


def test_another_run_sets_the_events_of_the_first_aside(tmp_path, caplog):
    log(tmp_path, (1, 2, 3))
    log(tmp_path, (1, 2), offset=0.5)
    scalars = accumulator(tmp_path).Scalars("charts/eval_episodic_return")
    assert [s.value for s in scalars] == [1.5, 2.5]
    (tmp_path / "first").mkdir()
    (tmp_path / "tensorboard.earlier").rename(tmp_path / "first" / "tensorboard")
    scalars = accumulator(tmp_path / "first").Scalars("charts/eval_episodic_return")
    assert [s.value for s in scalars] == [1, 2, 3]
    assert "held an earlier run; it is kept as tensorboard.earlier" in caplog.text
