"""What a run's folder costs: metrics, replay log and checkpoints beside the training that they record.

    .venv/bin/python benchmarks/recording.py [--pairs 5]

Written to benchmarks/results/recording.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pairs import Row, Side, alternate, publish
from physics import CASES, WORKERS, trainer

from torch_es import ES
from torch_es.run_folder import RunFolder

EVERY = 30.0  # seconds between checkpoints, the default


class Timed(RunFolder):
    """A run's folder that counts the seconds spent in it."""

    spent = 0.0
    saves: list[float]

    def record(self, *arguments: object) -> None:
        start = time.perf_counter()
        super().record(*arguments)  # type: ignore[arg-type]
        self.spent += time.perf_counter() - start

    def save(self, *arguments: object) -> None:
        start = time.perf_counter()
        super().save(*arguments)  # type: ignore[arg-type]
        self.saves.append(time.perf_counter() - start)


def generations(es: ES, number: int, folder: RunFolder | None) -> float:
    """Return the seconds of so many generations, by the loop that a user runs."""
    goal = es.strategy.centre.generation + number
    start = time.perf_counter()
    es.learn(10**12, callback=lambda m: m["time/iterations"] < goal, folder=folder, resume=True, checkpoint_every=EVERY)
    return time.perf_counter() - start


def share(pairs: int) -> Row:
    """Return the seconds spent recording, a checkpoint every 30 s, over the seconds of training."""
    with tempfile.TemporaryDirectory() as path, trainer(CASES[0], CASES[0].env, WORKERS) as es:
        folder = Timed(path)
        folder.saves = []
        with folder:
            generations(es, 1, folder)
            folder.spent, folder.saves[:] = 0.0, []
            seconds = []
            for _ in range(pairs):
                seconds.append(generations(es, 1, folder))  # each ends with a checkpoint
        whole = sum(seconds) - sum(folder.saves)
        save = sum(folder.saves) / len(folder.saves)
    spent = folder.spent + save * whole / EVERY
    print(f"a generation's record {1e3 * folder.spent / pairs:.2f} ms, a checkpoint {1e3 * save:.1f} ms")
    return Row("recording/share of HalfCheetah-v5", spent * 1e3, whole * 1e3, spent / whole, "ms", pairs, "<= 0.01")


def whole(pairs: int) -> Row:
    """Return training with a folder beside training without; the machine's noise is larger than the cost."""
    case = CASES[0]
    with (
        tempfile.TemporaryDirectory() as path,
        trainer(case, case.env, WORKERS) as one,
        trainer(case, case.env, WORKERS) as two,
        RunFolder(Path(path)) as folder,
    ):
        generations(one, 1, folder), generations(two, 1, None)

        def sides() -> Iterator[tuple[Side, Side]]:
            for _ in range(pairs):
                yield lambda: generations(one, 1, folder), lambda: generations(two, 1, None)

        return alternate("recording/HalfCheetah-v5 with over without", sides(), "s", "<= 1.01")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    publish([share(given.pairs), whole(given.pairs)], "recording.json", "python benchmarks/recording.py")


if __name__ == "__main__":
    main()
