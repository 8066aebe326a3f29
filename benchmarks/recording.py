"""What a run's folder costs: metrics, replay log and checkpoints beside the training that they record.

    .venv/bin/python benchmarks/recording.py [--pairs 5]

Written to benchmarks/results/recording.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator

from pairs import Row, Side, alternate, publish
from physics import CASES, WORKERS, trainer

from torch_es import ES
from torch_es.runs.folder import RunFolder
from torch_es.runs.recording import Recording
from torch_es.runs.replay_log import fingerprint
from torch_es.training.loop import record_of

EVERY = 30.0  # seconds between checkpoints, the default


def generation(es: ES, run: Recording | None) -> float:
    """Play a generation, recorded or not; return the seconds."""
    start = time.perf_counter()
    metrics = es.trainer.run_generation(es.evaluator())
    if run is not None:
        run.record(metrics, record_of(es.trainer), es.trainer.seconds)
    return time.perf_counter() - start


def recording(es: ES, folder: RunFolder) -> Recording:
    """Return the recording of a run that begins in a folder."""
    theta = es.strategy.theta
    folder.open({"seed": es.seed, "initial": fingerprint(es.network), "options": es.described}, 0, theta.nbytes)
    return Recording(folder, es.state_dict, EVERY, es.trainer.seconds)


def share(pairs: int) -> Row:
    """Return the seconds spent recording, a checkpoint every 30 s included, over the seconds of training."""
    with (
        tempfile.TemporaryDirectory() as path,
        trainer(CASES[0], CASES[0].env, WORKERS) as es,
        RunFolder(path) as folder,
        recording(es, folder) as run,
    ):
        generation(es, run)
        spent = saving = whole = 0.0
        for _ in range(pairs):
            whole += generation(es, None)
            assert es.trainer.played is not None
            start = time.perf_counter()
            run.record({}, record_of(es.trainer), 0.0)
            spent += time.perf_counter() - start
            start = time.perf_counter()
            folder.save(es.state_dict)
            saving += time.perf_counter() - start
    print(f"a generation's record {1e3 * spent / pairs:.2f} ms, a checkpoint {1e3 * saving / pairs:.1f} ms")
    spent += saving / pairs * whole / EVERY
    return Row("recording/share of HalfCheetah-v5", spent * 1e3, whole * 1e3, spent / whole, "ms", pairs, "<= 0.01")


def whole(pairs: int) -> Row:
    """Return training with a folder beside training without; the machine's noise is larger than the cost."""
    case = CASES[0]
    with (
        tempfile.TemporaryDirectory() as path,
        trainer(case, case.env, WORKERS) as one,
        trainer(case, case.env, WORKERS) as two,
        RunFolder(path) as folder,
        recording(one, folder) as run,
    ):
        generation(one, run), generation(two, None)

        def sides() -> Iterator[tuple[Side, Side]]:
            for _ in range(pairs):
                yield lambda: generation(one, run), lambda: generation(two, None)

        return alternate("recording/HalfCheetah-v5 with over without", sides(), "s", "<= 1.01")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    publish([share(given.pairs), whole(given.pairs)], "recording.json", "python benchmarks/recording.py")


if __name__ == "__main__":
    main()
