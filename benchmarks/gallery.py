"""The pictures of docs/zoo.md: a curve and a short film of each task, from results and policies of the zoo.

    python benchmarks/gallery.py [TASK ...]

A curve is the centre's noise-free return in training, the mean over seeds and their range. A film is four seconds of
an episode of the policy in zoo/. The options of zoo.py are taken and change nothing here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gif import cut
from imageio_ffmpeg import count_frames_and_secs
from matplotlib.ticker import EngFormatter

from torch_es.report.plotting import new_figure
from zoo import command_line, folder, rows

OUT = Path(__file__).parent.parent / "docs" / "zoo"
START, SECONDS = 1, 4  # of the video; a body needs a second to find its stride
SHAPE = "fps=12,scale=160:-1:flags=lanczos"


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for task in command_line(__doc__).tasks:
        if rows(task):
            draw(task)
            film(task)


def draw(task: str) -> None:
    """Draw the curve of a task's seeds."""
    curves = [np.array(row["curve"]) for row in rows(task).values()]
    grid = np.linspace(0, min(curve[-1, 0] for curve in curves), 80)
    returns = np.array([np.interp(grid, *curve.T) for curve in curves])
    figure, (axis,) = new_figure(1, height=2.2)
    axis.fill_between(grid, returns.min(0), returns.max(0), alpha=0.2, linewidth=0)
    axis.plot(grid, returns.mean(0))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set(xlabel="environment steps", ylabel="return")
    figure.savefig(OUT / f"{task}.png", dpi=70)


def film(task: str) -> None:
    """Film the policy of a task."""
    with tempfile.TemporaryDirectory() as scratch:
        video = Path(scratch) / "video.mp4"
        words = ["record", str(folder(task)), "--out", str(video)]
        subprocess.run([sys.executable, "-m", "torch_es", *words], check=True)
        _, length = count_frames_and_secs(video)
        # an episode of Reacher lasts a second, and a pendulum swings up in the first one
        start = START if length > START + SECONDS and task != "pendulum" else 0
        cut(video, OUT / f"{task}.gif", start, SECONDS, SHAPE, colours=32)


if __name__ == "__main__":
    main()
