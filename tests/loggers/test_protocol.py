import io
import itertools
import json
import re
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console
from rich.text import Text

from torch_es.cli.video import write_video
from torch_es.loggers import JsonlLogger, TensorBoardLogger, WandbLogger
from torch_es.loggers.progress import ProgressLogger
from torch_es.report.plotting import plot_runs

ROW = {
    "global_step": 50.0,
    "time/iterations": 1.0,
    "time/fps": 10.0,
    "rollout/ep_rew_mean": 1.5,
    "time/time_elapsed": 1.0,
}


def test_rows_are_written_as_they_come_and_stay_valid_json(tmp_path):
    for value in (1.0, float("nan")):
        logger = JsonlLogger()
        logger.start({}, tmp_path)
        logger.log({**ROW, "x": value})
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == (1 if value == 1.0 else 2)
        logger.close()
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first["x"] == 1.0
    assert "x" not in second


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


def test_progress_is_a_line_without_a_terminal_and_a_bar_on_one():
    plain, terminal = io.StringIO(), io.StringIO()
    for out, is_terminal in ((plain, False), (terminal, True)):
        progress = ProgressLogger(100, Console(file=out, force_terminal=is_terminal, width=150))
        progress.log(ROW)
        progress.log({**ROW, "eval/mean_reward": 7.0})
        progress.close()
    assert plain.getvalue().splitlines()[1] == "generation 1 | 50 steps | 10 steps/s | population 1.5 | centre 7.0"
    assert "━" in terminal.getvalue()


def test_the_bar_shows_how_far_and_how_long_at_80_columns():
    out = io.StringIO()
    progress = ProgressLogger(3_000_000, Console(file=out, force_terminal=True, width=80))
    progress._bar.get_time = itertools.count(step=10.0).__next__  # seconds, or no speed could be known
    for step in (1_000_000.0, 2_000_000.0):
        progress.log({**ROW, "global_step": step, "time/fps": 25_000.0, "eval/mean_reward": 4_321.0})
    progress._bar.refresh()
    progress.close()
    last = Text.from_ansi(out.getvalue()).plain.splitlines()[-1]
    assert re.match(r"━+[╸╺]?━* 0:\d\d:\d\d generation 1 \| centre 4,321.0 \| population 1.5 \| ", last), last
    assert len(last) <= 80


def test_the_curve_is_a_picture_of_all_runs(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        lines = [
            json.dumps({**ROW, "global_step": i, "rollout/ep_rew_std": 1.0, "eval/mean_reward": i}) for i in range(5)
        ]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(lines))
    assert imread(plot_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "c.png")).std() > 0.05


@pytest.mark.parametrize(
    ("content", "message"), [(None, "it has no metrics.jsonl"), ("", "has not finished a generation")]
)
def test_a_folder_without_metrics_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        plot_runs([tmp_path], tmp_path / "c.png")


def test_frames_become_a_video(tmp_path):
    frames = [np.full((64, 64, 3), i * 10, np.uint8) for i in range(10)]
    assert write_video(frames, tmp_path / "v.mp4", 30).stat().st_size > 500
