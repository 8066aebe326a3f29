"""Nodes die, hang, join and all leave; the driver dies: the bits are those of the undisturbed run on one machine."""

import os
import random
import signal
import subprocess
import threading
import time
from functools import partial

import pytest
from harness import CONFIG, Faulty, bits, command, golden, make, rows, torch_es, until
from machines import actors, kill_an_actor, pause, raylets, wait_for

from torch_es.cluster import RayEvaluator
from torch_es.errors import WorkerError
from torch_es.evaluators import FaultTolerance
from torch_es.seeding import derive_seed

POISON = derive_seed("environment", 0, 0, 2, 0)  # the environments of generation 0, pair 2
GENERATIONS = 3


def trained(happens=lambda: None, at=(1,), pause=0.05, generations=GENERATIONS, **options):
    """Train on the cluster; during the generations `at`, something happens while episodes are played."""
    seen = []

    def callback(row):
        seen.append(row)
        if row["time/iterations"] in at:
            threading.Timer(0.3, happens).start()
        return row["time/iterations"] < generations

    with make(partial(Faulty, pause=pause), evaluator=RayEvaluator(**options)) as es:
        es.learn(10**9, callback=callback)
    return es, seen


@pytest.mark.slow  # Ray takes minutes to see it on two busy cores
def test_F56_a_node_that_dies_changes_nothing(machines, caplog):
    machines.have(2)
    es, seen = trained(lambda: machines.kill(machines.nodes[0]))
    assert bits(es) == golden(GENERATIONS)
    assert [row["cluster/nodes"] for row in seen] == [2, 1, 1]
    (record,) = [r for r in caplog.records if "nodes that remain" in r.message]
    assert "Node 127.0.1." in record.message
    assert "nodes that remain: 1. Its tasks run again: generation 1 member" in record.message


def test_F57_an_actor_that_dies_changes_nothing(machines, caplog):
    machines.have(1)
    es, seen = trained(kill_an_actor)
    assert bits(es) == golden(GENERATIONS)
    assert seen[-1]["es/worker_restarts"] == 1
    assert caplog.text.count("; nodes that remain: 0") == 1


@pytest.mark.slow
def test_F58_a_node_that_joins_plays_too(machines):
    machines.have(1)
    es, seen = trained(machines.add_from_outside, generations=30)
    assert bits(es) == golden(30)
    assert seen[0]["cluster/workers"] == 2
    assert seen[-1]["cluster/workers"] == 4


@pytest.mark.slow
def test_F59_a_node_that_is_silent_is_given_up(machines, caplog):
    machines.have(1)
    es, _ = trained(lambda: pause(actors()[0]), silence=3.0)
    assert bits(es) == golden(GENERATIONS)
    assert "did not answer for 3 s; " in caplog.text


@pytest.mark.slow
def test_F60_without_any_node_a_run_waits_and_then_stops(machines, tmp_path):
    machines.have(1)

    def gone_for_a_while():
        machines.have(0)
        machines.add_from_outside()

    es, _ = trained(gone_for_a_while, node_timeout=60.0)
    assert bits(es) == golden(GENERATIONS)
    seen = []

    def callback(row):
        seen.append(row)
        if len(seen) == 2:
            machines.have(0)

    with (
        make(evaluator=RayEvaluator(node_timeout=2.0)) as es,
        pytest.raises(WorkerError, match=r"no node with workers for 2 s \(`node_timeout`\)"),
    ):
        es.learn(10**9, callback=callback, folder=tmp_path / "r", checkpoint_every=1000)
    machines.have(1)
    with make(evaluator=RayEvaluator()) as es:
        es.learn(10**9, callback=until(GENERATIONS), folder=tmp_path / "r", resume=True)
    assert bits(es) == golden(GENERATIONS)


@pytest.mark.slow
def test_F62_a_member_that_takes_workers_down_is_named_with_its_node(machines):
    machines.have(1)
    with (
        make(partial(Faulty, "segfault", seed=POISON), evaluator=RayEvaluator()) as es,
        pytest.raises(WorkerError, match=r"(?s)Node 127.0.1.*generation 0 member [45] .*took down a worker 3 times"),
    ):
        es.learn(10**9)


def test_an_exception_arrives_with_its_type_and_traceback(machines):
    machines.have(1)
    with (
        make(partial(Faulty, "raise"), evaluator=RayEvaluator()) as es,
        pytest.raises(WorkerError, match=r"(?s)Node 127.0.1.*OwnError: the joint broke.*in step") as caught,
    ):
        es.learn(10**9)
    assert type(caught.value.__cause__).__name__ == "OwnError"


def test_a_constructor_that_fails_ends_the_start(machines, tmp_path):
    machines.have(1)
    with (
        make(partial(Faulty, "constructor", str(tmp_path / "calls")), evaluator=RayEvaluator()) as es,
        pytest.raises(WorkerError, match=r"Node 127.0.1.*OSError: no such robot"),
    ):
        es.learn(10**9)


@pytest.mark.slow
def test_F61_a_killed_driver_is_resumed(machines, tmp_path, tried):
    """Ten times, at random moments; then to the end."""
    machines.have(1)
    run = [*CONFIG, "+env.kwargs.pause=0.01", "total_timesteps=2000", "checkpoint_every=0"]
    words = [*run, "evaluator=ray", f"evaluator.address={machines.cluster.address}", "resume=auto", "run_dir=r"]
    moments = random.Random(0)
    for _ in range(10):
        arguments, own = command("-m", "torch_es", *words)
        process = subprocess.Popen(arguments, cwd=tmp_path, env=own, stdout=subprocess.DEVNULL)
        wait_for(actors)
        time.sleep(moments.uniform(3, 7))
        process.kill()
        process.wait()
        wait_for(lambda: not actors())
        tried()
    code, _, error = torch_es(*words, cwd=tmp_path)
    assert code == 0, error
    assert torch_es(*run, "evaluator=serial", "run_dir=straight", cwd=tmp_path)[0] == 0
    assert rows(tmp_path / "r") == rows(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["F56", "F57"])
def test_twenty_kills_at_random_moments_change_nothing(machines, victim, tried):
    machines.have(2)
    moments, generations = random.Random(1), 60
    ended, kills = threading.Event(), 0

    def kill():
        nonlocal kills
        while kills < 20 and not ended.wait(moments.uniform(0.5, 3.0)):
            if victim == "F57" and actors():
                os.kill(moments.choice(actors()), signal.SIGKILL)
                kills += 1
            elif victim == "F56" and (nodes := raylets()):
                os.kill(moments.choice(nodes), signal.SIGKILL)
                kills += 1
                machines.add_from_outside()

    thread = threading.Thread(target=kill)
    thread.start()
    options = RayEvaluator(tolerance=FaultTolerance(max_restarts=20))
    with make(partial(Faulty, pause=0.05), evaluator=options) as es:
        try:
            es.learn(10**9, callback=lambda row: row["time/iterations"] < generations or kills < 20)
        finally:
            ended.set()  # else it would kill the actors of later tests
            thread.join()
        played = es.trainer.strategy.generation
    tried(kills)
    assert kills == 20
    assert bits(es) == golden(played)
