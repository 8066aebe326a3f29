"""Run the comparison of the announcement of ES with reinforcement learning again, and write docs/science.md.

    python benchmarks/reproduce.py [--jobs 2]                    # all that has no result yet
    python benchmarks/reproduce.py noise table1/trpo             # of this experiment, and of this arm of another
    python benchmarks/reproduce.py --list                        # what that would be
    python benchmarks/reproduce.py --job table1/es-hopper-0      # one job, in this process
    python benchmarks/reproduce.py --page                        # docs/science.md, while it runs
    python benchmarks/reproduce.py --smoke                       # every line of it with tiny budgets, in minutes

Each job is a process with one thread that gives way to other work, and writes a file of benchmarks/results/science. A
job that has one is skipped. One that was cut continues from its last save in runs/science, a few minutes old.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import processes
import torch
from science import experiments, page
from science.jobs import Job, Place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"how names begin: {', '.join(experiments.names())}, table1/trpo, ...")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many run side by side")
    parser.add_argument("--job", help="run this one alone, in this process")
    parser.add_argument("--list", action="store_true", help="only list what has no result")
    parser.add_argument("--page", action="store_true", help="only write the page from the results that there are")
    parser.add_argument("--smoke", action="store_true", help="tiny budgets, in a temporary folder")
    parser.add_argument("--inside", type=Path, help="a folder for everything that is written")
    given = parser.parse_args()
    if given.smoke and given.inside is None:
        given.inside = Path(tempfile.mkdtemp(prefix="reproduce-"))
    place = Place.inside(given.inside) if given.inside else Place()
    jobs = experiments.smoke_jobs() if given.smoke else experiments.all_jobs()
    for name in given.names:
        if not any(job.name.startswith(name) for job in jobs):
            parser.error(f"no job's name begins with {name}; there are {', '.join(experiments.names())}")
    if given.job:
        named = {job.name: job for job in jobs}
        if given.job not in named:
            parser.error(f"there is no job {given.job}; --list names those without a result")
        torch.set_num_threads(1)
        named[given.job].run(place)
        return
    if given.page:
        print(f"wrote {page.write(jobs, place)}")
        return
    wanted = [job for job in jobs if job.name.startswith(tuple(given.names) or "")]
    missing = [job for job in wanted if not job.done(place)]
    print(f"{len(missing)} of {len(wanted)} jobs to run", *[job.name for job in missing if given.list], sep="\n")
    if given.list:
        return
    failed = run_all(missing, place, given)
    print(f"wrote {page.write(jobs, place)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run_all(missing: list[Job], place: Place, given: argparse.Namespace) -> list[str]:
    """Run jobs side by side; return the names of those that failed."""
    processes.yield_to_others()
    os.environ.update({f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")})
    own = [*(["--smoke"] if given.smoke else []), *(["--inside", str(given.inside)] if given.inside else [])]

    started: dict[str, Future[bool]] = {}

    def run(job: Job) -> bool:
        for other in job.beside:  # its cost is this one's budget
            if other.name in started:
                started[other.name].result()
        log = place.runs / f"{job.name}.log"
        code, _ = processes.run([__file__, "--job", job.name, *own], log)
        print(job.name, f"failed: see {log}" if code else "done", flush=True)
        return code == 0

    with ThreadPoolExecutor(given.jobs) as pool:
        for job in missing:
            started[job.name] = pool.submit(run, job)
    return [name for name, done in started.items() if not done.result()]


if __name__ == "__main__":
    main()
