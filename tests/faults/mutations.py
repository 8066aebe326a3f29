"""Protections taken away one at a time: each must turn a test red, or the test guards nothing.

    python tests/faults/mutations.py [F01 F31 ...]

A protected statement of the package carries the code of its fault as a comment, `# F01`, with a letter where a fault
has several. A mutation puts another statement in its place, in a copy of the tree in which the test then runs: it must
fail there, and pass in a copy that was left alone. A test without an end counts as a failure too, where what was taken
away is what ends it. The table goes to benchmarks/results/mutations.json; with codes, only their rows are replaced.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
MARKER = re.compile(r"# (F\d\d[a-z]?|replay-[a-z])$", re.M)
LIMIT = 240  # seconds for a test


class Mutation(NamedTuple):
    """The mark of a protected statement, what it protects, what stands there instead, and the test that must notice.

    Of a compound statement (`if`, `for`, `def`) the header alone is replaced.
    """

    mark: str
    protection: str
    new: str
    test: str

    @property
    def fault(self) -> str:
        """The code without its letter."""
        return re.sub(r"(-[a-z]|(?<=\d)[a-z])$", "", self.mark)

    @property
    def file(self) -> str:
        """The file of the test, from the top of the repository."""
        return f"tests/faults/test_fault_{self.test.partition('::')[0]}"


DIES = "workers.py::test_F01_F02_F03_a_worker_that_dies_changes_nothing"
DROPPED = "workers.py::test_F04_or_its_pair_is_dropped_and_counted"
RESUMED = "resume.py::test_F29_resumed_is_straight"
DAMAGED = "resume.py::test_F31_F32"
FULL = "resources.py::test_F25_a_full_disk"
KILLED_SWEEP = "sweep.py::test_F54_a_killed"

MUTATIONS = [
    Mutation("F01", "lost tasks run again", "pass", DIES),
    Mutation("F02", "a crash writes its stack", "pass", DIES),
    Mutation("F03a", "SIGKILL may be the OOM killer", 'return f"was killed by {name}"', DIES),
    Mutation("F03b", "a MemoryError is retried", "short_of_memory = False",
             "workers.py::test_F03_a_memory_error_that_passes_changes_nothing"),
    Mutation("F04a", "a poison member is found", "if False:", DROPPED),
    Mutation("F04b", "suspects play alone", "alone = False", DROPPED),
    Mutation("F05", "the original exception is the cause", "cause = None", "workers.py::test_F05"),
    Mutation("F06", "a failed constructor ends the start", "if False:",
             "workers.py::test_F06_a_constructor_that_fails_fails_once"),
    Mutation("F07", "silence has a limit", "if False:", "workers.py::test_F07_F09"),
    Mutation("F10", "a new worker gets the snapshot", "pass", DIES),
    Mutation("F11a", "workers die with the parent", "pass", "signals.py::test_F11_workers_die"),
    Mutation("F11b", "workers end with a program that forgot them", "self._kill = lambda: _kill(self.process.pid)",
             "signals.py::test_F11_a_program_that_closes_nothing_ends"),
    Mutation("F11c", "a worker that holds the interpreter's lock ends too", "pass", "signals.py::test_F11_workers_die"),
    Mutation("F12", "a stopped run is saved", "pass", "signals.py::test_F12_F13"),
    Mutation("F13a", "the exit code names the signal", "return",
             "signals.py::test_F13_the_handler_before_ours_is_called_and_restored"),
    Mutation("F13b", "a worker that starts is not interrupted", "before = signal.pthread_sigmask(signal.SIG_BLOCK, ())",
             "signals.py::test_F12_F13_a_signal_to_the_group_while_workers_start"),
    Mutation("F15", "checkpoints are staged", "staging = folder", "signals.py::test_F15"),
    Mutation("F17", "what cannot be pickled is named", 'path, culprit = "objective", objective',
             "workers.py::test_F17"),
    Mutation("F19", "joblib's start method is kept from workers", "strange = False", "workers.py::test_F19_a_process"),
    Mutation("F22", "shared memory is looked at first", "if False:", "resources.py::test_F22_is_checked"),
    Mutation("F23", "nothing is kept of a generation",
             'self.played = generation; self.__dict__.setdefault("kept", []).append(bytearray(10_000))',
             "resources.py::test_F23"),
    Mutation("F24", "libraries have one thread", "pass", "resources.py::test_F24"),
    Mutation("F25", "a full disk is borne", "if True:", FULL),
    Mutation("F25", "and at the end it is an error", 'if self._on_save_error == "raise":', FULL),
    Mutation("F26", "the folder is tried first", "pass", "resources.py::test_F26"),
    Mutation("F28a", "rows of the lost generations go", "pass", DAMAGED),
    Mutation("F28b", "so do frames of the replay log", "pass",
             "replay.py::test_a_resume_forgets_the_frames_that_come_again"),
    Mutation("F29a", "the scheduler's state", "pass", RESUMED),
    Mutation("F29b", "the optimiser's state", "pass", RESUMED),
    Mutation("F29c", "the statistics", "pass", RESUMED),
    Mutation("F30", "statistics merge in member order", "at = unit, self._results % self.unit_size, episode",
             "resume.py::test_F30"),
    Mutation("F31a", "hashes are compared", "if False:", DAMAGED),
    Mutation("F31b", "the one before is used", "break", DAMAGED),
    Mutation("F32", "stale staging folders go", "for path in ():", "resume.py::test_F32"),
    Mutation("F33a", "only torch.optim's optimisers are made", "if False:", "resume.py::test_F33_nor"),
    Mutation("F33b", "an id that imports is refused", "if False:", "resume.py::test_F33_nor"),
    Mutation("F34a", "options are compared", 'if found := "":', "resume.py::test_F34_a_run"),
    Mutation("F34b", "shapes are compared", 'if found := "":', "resume.py::test_F34_a_run"),
    Mutation("F36", "one process a folder", "pass", "signals.py::test_F36"),
    Mutation("F37", "what is strided is saved", "tensors[path] = tree.detach()", "resume.py::test_F37"),
    Mutation("F38a", "the checkpoint is read", "pass", "leaving.py::test_F38"),
    Mutation("F38b", "an exported policy normalises", "output = self.network[1:](rows)",
             "leaving.py::test_F38"),
    Mutation("F38c", "a pushed policy is the trained one", "pass", "leaving.py::test_F38"),
    Mutation("F39", "NaN is not ranked", "finite = np.ones(len(fitness), bool)", "numerics.py::test_F39"),
    Mutation("F40", "a generation of NaN is an error", 'if non_finite == "raise" and kept < len(fitness):',
             "numerics.py::test_F40_a_generation"),
    Mutation("F42a", "an infinite step is taken back", "if False:", "numerics.py::test_F42_an_absurd"),
    Mutation("F42b", "what is not finite is not saved", "pass", "numerics.py::test_F42_what"),
    Mutation("F43", "ties share their rank",
             "ranks = np.argsort(np.argsort(returns.ravel())).reshape(returns.shape)", "numerics.py::test_F43"),
    Mutation("F45", "returns start at zero", "self._started[lane] = self._clock", "numerics.py::test_F45"),
    Mutation("F46", "episodes are capped", "over = terminated or truncated", "numerics.py::test_F46"),
    Mutation("F48a", "an episode is asked for twice", "again = 0", "environments.py::test_F48_training_warns_once"),
    Mutation("F48b", "an environment is played in twice", "if self._seed is not None:",
             "environments.py::test_F48_check_env_finds"),
    Mutation("F48c", "the same is played again", "return {}", "environments.py::test_F48_check_env_says"),
    Mutation("F51", "a logger's failure is caught", "raise", "logging.py::test_F51_a_logger"),
    Mutation("F52", "W&B's id is kept", "if True:", "logging.py::test_F52"),
    Mutation("F53a", "a job's traceback is kept", "trace = None", "logging.py::test_F53"),
    Mutation("F53b", "a failed job is an error", "return 0.0", "logging.py::test_F53"),
    Mutation("F54a", "trials that a killed sweep left running are failed", "pass", KILLED_SWEEP),
    Mutation("F54b", "finished trials count on resume", 'for _ in range(options["trials"]):', KILLED_SWEEP),
    Mutation("F54c", "a NaN is no result", "if False:", KILLED_SWEEP),
    Mutation("F55", "nobody listening is no fault", "def _unused(self) -> None:", "logging.py::test_F55_a_terminal"),
    Mutation("replay-a", "bits are compared", "if False:", "replay.py::test_another_start"),
    Mutation("replay-b", "frames are checked", "if False:", "replay.py::test_a_damaged_frame"),
    Mutation("replay-c", "digests are chained", "chain = _digest(body)", "replay.py::test_a_frame_that"),
]  # fmt: skip


def marks(tree: Path) -> list[tuple[str, Path]]:
    """Every mark in the package, with its file."""
    return [(mark, path) for path in sorted(tree.glob("torch_es/**/*.py")) for mark in MARKER.findall(path.read_text())]


def mutated(text: str, mark: str, new: str) -> str:
    """Put `new` in the place of the marked statement, or of its header."""
    lines = text.splitlines(keepends=True)
    (at,) = [number for number, line in enumerate(lines, 1) if line.rstrip().endswith(f"# {mark}")]
    found = [s for s in ast.walk(ast.parse(text)) if isinstance(s, ast.stmt) and s.lineno <= at <= _last(s)]
    innermost = max(found, key=lambda statement: statement.lineno)
    first, last = innermost.lineno - 1, _last(innermost)
    indent = re.match(r"\s*", lines[first])[0]
    return "".join([*lines[:first], textwrap.indent(new, indent) + "\n", *lines[last:]])


def _last(statement: ast.stmt) -> int:
    """The last line of a statement, or of its header."""
    body = getattr(statement, "body", None)
    return body[0].lineno - 1 if body else statement.end_lineno or statement.lineno


def apply(mutation: Mutation, tree: Path) -> Path:
    """Take the protection away in a tree; returns the file that was changed."""
    (path,) = [path for mark, path in marks(tree) if mark == mutation.mark]
    path.write_text(mutated(path.read_text(), mutation.mark, mutation.new))
    return path


def outcome(mutation: Mutation) -> str:
    """Return "red", "no end", "GREEN" where nothing noticed, or "BROKEN" where the test could not run."""
    if (plain := run(mutation.file, mutation.test.partition("::")[2])) != "GREEN":
        return f"BROKEN: the test does not pass as things stand: {plain}"
    return _run(mutation.file, mutation.test.partition("::")[2], functools.partial(apply, mutation))


def _run(file: str, name: str, prepare: Callable[[Path], object] = lambda tree: None) -> str:
    """Run a file's tests of that name in a copy of the tree."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=_left_out)
        prepare(tree)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "slow or not slow", file, "-k", name]
        own = {**os.environ, "PYTHONPATH": str(tree)}
        try:
            done = subprocess.run(command, cwd=tree, env=own, capture_output=True, timeout=LIMIT, text=True)
        except subprocess.TimeoutExpired:
            return "no end"
        return {0: "GREEN", 1: "red"}.get(done.returncode, f"BROKEN\n{done.stdout}{done.stderr}")


run = functools.cache(_run)


def _left_out(folder: str, names: list[str]) -> list[str]:
    """Runs, documents and caches are not copied; torch_es/runs is."""
    top = {"runs", "docs", "site"} if Path(folder) == ROOT else set()
    return [name for name in names if name in top or name == "__pycache__" or name.startswith(".")]


def main(wanted: list[str]) -> int:
    """Run the mutations of the wanted faults, or all, and write the table."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from machine import RESULTS, describe

    found = []
    for mutation in MUTATIONS:
        if wanted and not {mutation.fault, mutation.mark} & set(wanted):
            continue
        start = time.monotonic()
        result = outcome(mutation)
        found.append({"fault": mutation.fault, "taken away": mutation.protection, "test": mutation.test.split("::")[1]})
        found[-1]["result"] = result
        print(f"{mutation.mark:8} {result:6} {mutation.protection} ({time.monotonic() - start:.0f} s)", flush=True)
    path = RESULTS / "mutations.json"
    rows = {(row["fault"], row["taken away"]): row for row in json.loads(path.read_text())["rows"]}
    rows |= {(row["fault"], row["taken away"]): row for row in found}
    current = [rows[m.fault, m.protection] for m in MUTATIONS if (m.fault, m.protection) in rows]
    document = {"machine": describe(), "command": "python tests/faults/mutations.py", "rows": current}
    path.write_text(json.dumps(document, indent=1) + "\n")
    survived = [row for row in found if row["result"] not in ("red", "no end")]
    print(f"{len(found) - len(survived)} of {len(found)} mutations turn a test red")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
