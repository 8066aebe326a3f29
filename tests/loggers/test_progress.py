import io
import itertools
import re

from rich.console import Console
from rich.text import Text

from torch_es.loggers.progress import ProgressLogger

ROW = {
    "global_step": 50.0,
    "time/iterations": 1.0,
    "time/fps": 10.0,
    "rollout/ep_rew_mean": 1.5,
    "time/time_elapsed": 1.0,
}


def test_progress_is_a_line_without_a_terminal_and_a_bar_on_one():
    plain, terminal = io.StringIO(), io.StringIO()
    for out, is_terminal in ((plain, False), (terminal, True)):
        progress = ProgressLogger(100, Console(file=out, force_terminal=is_terminal, width=150))
        progress.log(ROW)
        progress.log({**ROW, "eval/mean_reward": 7.0})
        progress.log({**ROW, "time/iterations": 2.0})
        progress.close()
    centres = [line.split(" | ")[-1] for line in plain.getvalue().splitlines()]
    assert centres == ["centre -", "centre 7.0", "centre 7.0 (generation 1)"]
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
