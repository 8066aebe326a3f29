"""Protections taken away one at a time: each must turn a test red, or the test guards nothing.

    python tests/faults/mutations.py [F01 F31 ...]

Each is one line of the package, `old` replaced by `new` in a copy of the tree in which the test then runs: red is what is
wanted, and so is a test without an end where what was taken away is what ends it. The table goes to
benchmarks/results/mutations.json; of some faults, their rows alone are written anew.
"""

# ruff: noqa: E501 - lines of the package as they stand there

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
LIMIT = 240  # seconds for a test


class Mutation(NamedTuple):
    """A protection, the line that is it, what stands there without it, and the test that must notice."""

    fault: str
    protection: str
    file: str
    old: str
    new: str
    test: str


def _m(fault: str, protection: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(fault, protection, f"torch_es/{file}", old, new, f"tests/faults/test_fault_{test}")


LEDGER, PROCESS, REMOTE, WORKER = (
    "evaluators/ledger.py",
    "evaluators/process.py",
    "evaluators/remote.py",
    "evaluators/worker.py",
)
DIES = "workers.py::test_F01_F02_F03_a_worker_that_dies_changes_nothing"

MUTATIONS = [
    _m("F01", "lost tasks run again", LEDGER, "self._lost.extend(tasks)", "pass", f"{DIES}"),
    _m("F02", "a crash writes its stack", WORKER, "faulthandler.enable(stacks.fileno())", "pass", DIES),
    _m("F03", "SIGKILL may be the OOM killer", REMOTE, "' (possibly out of memory)'", "''", DIES),
    _m("F03", "a MemoryError is retried", PROCESS, "isinstance(cause, MemoryError)", "False",
       "workers.py::test_F03_a_memory_error_that_passes_changes_nothing"),
    _m("F04", "a poison member is found", LEDGER, "self._losses[tasks[0]] > self._tolerance.max_retries", "False",
       "workers.py::test_F04_or_its_pair_is_dropped_and_counted"),
    _m("F04", "suspects play alone", LEDGER, "alone = self._losses[task] > 1", "alone = False",
       "workers.py::test_F04_or_its_pair_is_dropped_and_counted"),
    _m("F05", "the original exception is the cause", PROCESS,
       'raise WorkerError(f"Worker {worker.number} {reason}{detail}") from cause',
       'raise WorkerError(f"Worker {worker.number} {reason}{detail}")', "workers.py::test_F05"),
    _m("F06", "a failed constructor ends the start", PROCESS, "if len(message) != LANES.size:",
       "if False:", "workers.py::test_F06_a_constructor_that_fails_fails_once"),
    _m("F07", "silence has a limit", PROCESS, "worker.silence() > self._tolerance.task_timeout", "False",
       "workers.py::test_F07_F09"),
    _m("F10", "a new worker gets the snapshot", PROCESS, 'fresh.send("begin", self._posted)', "pass", DIES),
    _m("F11", "workers die with the parent", REMOTE, 'self.process._config["dies"] = _WithParent()',
       "pass", "signals.py::test_F11_workers_die"),
    _m("F11", "workers end with a program that forgot them", REMOTE,
       "self._kill = util.Finalize(self, _kill, args=(self.process,), exitpriority=0)",
       "self._kill = lambda: _kill(self.process)", "signals.py::test_F11_a_program_that_closes_nothing_ends"),
    _m("F12", "a stopped run is saved", "runs/recording.py", "if error is None or isinstance(error, Stopped):", "if isinstance(error, Stopped):\n            return\n        if error is None:",
       "signals.py::test_F12_F13"),
    _m("F13", "the exit code names the signal", "training/signals.py", "raise SystemExit(128 + number)", "return",
       "signals.py::test_F13_the_handler_before_ours_is_called_and_restored"),
    _m("F13", "a worker that starts is not interrupted", REMOTE,
       "before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)",
       "before = signal.pthread_sigmask(signal.SIG_BLOCK, ())",
       "signals.py::test_F12_F13_a_signal_to_the_group_while_workers_start"),
    _m("F15", "checkpoints are staged", "runs/checkpoint.py",
       'staging = folder.with_name(f".{folder.name}.tmp{os.getpid()}")', "staging = folder", "signals.py::test_F15"),
    _m("F17", "what cannot be pickled is named", "evaluators/pickling.py",
       'path, culprit = _culprit(objective, "objective", _DEPTH)',
       'path, culprit = "objective", objective', "workers.py::test_F17"),
    _m("F19", "joblib's start method is kept from workers", REMOTE,
       "strange = method not in (None, *mp.get_all_start_methods())", "strange = False", "workers.py::test_F19_a_process"),
    _m("F22", "shared memory is looked at first", "evaluators/resources.py", "if free < needed:\n        raise ResourceError(\n"
       '            f"{_SHARED}', "if False:\n        raise ResourceError(\n" '            f"{_SHARED}',
       "resources.py::test_F22_is_checked"),
    _m("F23", "nothing is kept of a generation", "training/trainer.py", "self.played = generation",
       'self.played = generation; self.__dict__.setdefault("kept", []).append(bytearray(10_000))',
       "resources.py::test_F23"),
    _m("F24", "libraries have one thread", REMOTE, 'os.environ.update(dict.fromkeys(names, "1"))', "pass",
       "resources.py::test_F24"),
    _m("F25", "a full disk is borne", "runs/folder.py", 'if must or self._on_save_error == "raise":', "if True:",
       "resources.py::test_F25_a_full_disk"),
    _m("F25", "and at the end it is an error", "runs/folder.py", 'if must or self._on_save_error == "raise":',
       'if self._on_save_error == "raise":', "resources.py::test_F25_a_full_disk"),
    _m("F26", "the folder is tried first", "runs/folder.py", "check_folder(self.path, 0)", "pass",
       "resources.py::test_F26"),
    _m("F28", "rows of the lost generations go", "runs/folder.py", 'cut_metrics(self.path / "metrics.jsonl", generation)',
       "pass", "resume.py::test_F31_F32"),
    _m("F28", "so do frames of the replay log", "runs/replay_log.py", "self._file.cut(last.end)", "pass",
       "replay.py::test_a_resume_forgets_the_frames_that_come_again"),
    _m("F29", "the scheduler's state", "search/centre.py", 'self.scheduler.load_state_dict(state["scheduler"])', "pass",
       "resume.py::test_F29_resumed_is_straight"),
    _m("F29", "the optimiser's state", "search/centre.py", 'self.optimizer.load_state_dict(state["optimizer"])', "pass",
       "resume.py::test_F29_resumed_is_straight"),
    _m("F29", "the statistics", "training/trainer.py", 'self.objective.statistics.load_state_dict(progress["observation_norm"])',
       "pass", "resume.py::test_F29_resumed_is_straight"),
    _m("F30", "statistics merge in member order", "training/generation.py", "at = unit, place, episode\n", "at = unit, self._results % self.unit_size, episode\n", "resume.py::test_F30"),
    _m("F31", "hashes are compared", "runs/checkpoint.py",
       'if hashlib.sha256(content).hexdigest() != expected["sha256"]:', "if False:", "resume.py::test_F31_F32"),
    _m("F31", "the one before is used", "runs/checkpoint.py", "damaged.append(str(error))\n            continue",
       "damaged.append(str(error))\n            break", "resume.py::test_F31_F32"),
    _m("F32", "stale staging folders go", "runs/checkpoint.py",
       'for path in (*Path(folder).glob(".*.tmp*"), *Path(folder).glob(".*.old*")):', "for path in ():",
       "resume.py::test_F32"),
    _m("F33", "only torch.optim's optimisers are made", "runs/options.py",
       "if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):", "if False:",
       "resume.py::test_F33_nor"),
    _m("F33", "an id that imports is refused", "es.py", 'elif ":" in str(saved["env"]):', "elif False:",
       "resume.py::test_F33_nor"),
    _m("F34", "options are compared", "runs/folder.py", "if found := differences(saved,",
       "if False and differences(saved,", "resume.py::test_F34_a_run"),
    _m("F34", "shapes are compared", "es.py", "if found := differences(then, now):",
       "if found := \"\":", "resume.py::test_F34_a_run"),
    _m("F36", "one process a folder", "runs/folder.py", "lock.acquire(blocking=False)", "pass",
       "signals.py::test_F36"),
    _m("F37", "what is strided is saved", "runs/checkpoint.py", "tree.detach().clone(memory_format=torch.contiguous_format)",
       "tree.detach()", "resume.py::test_F37"),
    _m("F38", "the checkpoint is read", "cli/playing.py", "es.restore(newest)", "pass", "leaving.py::test_F38"),
    _m("F38", "an exported policy normalises", "policies/export.py", "self.policy.respond(rows, ())[0]",
       "self.policy.network(rows)", "leaving.py::test_F38"),
    _m("F38", "a pushed policy is the trained one", "cli/push.py", "shared.load_state_dict(policy.state_dict())", "pass",
       "leaving.py::test_F38"),
    _m("F39", "NaN is not ranked", "search/rule.py", "np.all(np.isfinite(fitness), axis=1)", "np.ones(len(fitness), bool)",
       "numerics.py::test_F39"),
    _m("F40", "a generation of NaN is an error", "search/rule.py", "if kept == 0 or (", "if (",
       "numerics.py::test_F40_a_generation"),
    _m("F42", "an infinite step is taken back", "search/centre.py", "if not math.isfinite(norm):", "if False:",
       "numerics.py::test_F42_an_absurd"),
    _m("F42", "what is not finite is not saved", "es.py", "checkpoint.check_finite(state)", "pass",
       "numerics.py::test_F42_what"),
    _m("F43", "ties share their rank", "search/shaping.py", "(last - (counts - 1) / 2)[inverse]",
       "np.argsort(np.argsort(returns.ravel()))", "numerics.py::test_F43"),
    _m("F45", "returns start at zero", "rollout/episodes.py", "self._returns[lane], self._started[lane] = 0.0, self._clock",
       "self._started[lane] = self._clock", "numerics.py::test_F45"),
    _m("F46", "episodes are capped", "rollout/episodes.py", "if terminated or truncated or ends[lane] <= clock:",
       "if terminated or truncated:", "numerics.py::test_F46"),
    _m("F48", "an episode is asked for twice", "training/trainer.py", "again = self._check_repeatable(evaluator, generation)",
       "again: list[EpisodeResult] = []", "environments.py::test_F48_training_warns_once"),
    _m("F48", "an environment is played in twice", "cli/check_env.py", "one environment for all episodes\", 0, False",
       "one environment for all episodes\", 0, True", "environments.py::test_F48_check_env_finds"),
    _m("F48", "the same is played again", "envs/check.py", "if what]", "if False]",
       "environments.py::test_F48_check_env_says"),
    _m("F51", "a logger's failure is caught", "loggers/protocol.py", "working.remove(logger)\n", "raise\n",
       "logging.py::test_F51_a_logger"),
    _m("F52", "W&B's id is kept", "loggers/wandb.py", "if not kept.is_file():", "if True:", "logging.py::test_F52"),
    _m("F53", "a job's traceback is kept", "cli/run_log.py", "sys.exc_info()))", "None))", "logging.py::test_F53"),
    _m("F53", "a failed job is an error", "cli/train.py", "raise failure from error", "return 0.0",
       "logging.py::test_F53"),
    _m("F54", "trials that a killed sweep left running are failed", "cli/study.py",
       "study.tell(trial.number, state=TrialState.FAIL)", "pass", "sweep.py::test_F54_a_killed"),
    _m("F54", "finished trials count on resume", "cli/sweep.py", 'while len(finished(study)) < options["trials"]:',
       'for _ in range(options["trials"]):', "sweep.py::test_F54_a_killed"),
    _m("F54", "a NaN is no result", "cli/train.py", "if not math.isfinite(value):", "if False:", "sweep.py::test_F54_a_killed"),
    _m("F55", "nobody listening is no fault", "loggers/progress.py", "def on_broken_pipe(self)", "def _unused(self)",
       "logging.py::test_F55_a_terminal"),
    _m("replay", "bits are compared", "training/replay.py", "if digest(strategy.theta) != record.theta:", "if False:",
       "replay.py::test_another_start"),
    _m("replay", "frames are checked", "runs/replay_log.py", "if chain != expected:", "if False:",
       "replay.py::test_a_damaged_frame"),
    _m("replay", "digests are chained", "runs/replay_log.py", "chain = _digest(chain + body)", "chain = _digest(body)",
       "replay.py::test_a_frame_that"),
]  # fmt: skip


def applied(mutation: Mutation, tree: Path) -> None:
    """Take the protection away in a copy of the tree."""
    path = tree / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.fault}: {mutation.old!r} stands {text.count(mutation.old)} times in {path}")
    path.write_text(text.replace(mutation.old, mutation.new))


def outcome(mutation: Mutation) -> str:
    """Return "red", "no end", "GREEN" where nothing noticed, or "BROKEN" where the test could not run."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "runs", "__pycache__", "docs"))
        applied(mutation, tree)
        node, _, name = mutation.test.partition("::")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "slow or not slow", node, "-k", name]
        try:
            done = subprocess.run(
                command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, timeout=LIMIT, text=True
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "no end"
        return {0: "GREEN", 1: "red"}.get(done.returncode, f"BROKEN\n{done.stdout}{done.stderr}")


def main(wanted: list[str]) -> int:
    """Run the mutations of the wanted faults, or all, and write the table."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from machine import RESULTS, describe

    found = []
    for mutation in MUTATIONS:
        if wanted and mutation.fault not in wanted:
            continue
        start = time.monotonic()
        result = outcome(mutation)
        found.append({"fault": mutation.fault, "taken away": mutation.protection, "test": mutation.test.split("::")[1]})
        found[-1]["result"] = result
        print(f"{mutation.fault:6} {result:6} {mutation.protection} ({time.monotonic() - start:.0f} s)", flush=True)
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
