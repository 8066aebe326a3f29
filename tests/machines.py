"""A Ray cluster whose nodes are real Ray nodes, on one machine, each with an address of its own."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 100, "health_check_timeout_ms": 300}


class Machines:
    """A head without CPUs, and nodes that come and go."""

    def __init__(self, nodes=0):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        head = {"num_cpus": 0, "node_ip_address": "127.0.0.2", "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": QUICK})
        ray.init(address=self.cluster.address, logging_level=logging.ERROR, log_to_driver=False)
        self.nodes, self._others, self._count = [], [], 0
        self.have(nodes)

    def have(self, number):
        """Add nodes, or kill some, until there are so many of `nodes`, and none of others."""
        self._end_others()
        for node in [node for node in self.nodes if node.dead_processes()]:  # a test has killed it
            self.kill(node)
        while len(self.nodes) > number:
            self.kill(self.nodes[-1])
        while len(self.nodes) < number:
            self.add()

    def add(self):
        self._count += 1
        self.nodes.append(self.cluster.add_node(num_cpus=2, node_ip_address=f"127.0.1.{self._count}"))

    def add_from_outside(self):
        """Add a node as a user does, from any thread; it leaves when the cluster is closed."""
        self._count += 1
        ray_command = Path(sys.executable).with_name("ray")
        words = [
            "start",
            f"--address={self.cluster.address}",
            "--num-cpus=2",
            f"--node-ip-address=127.0.1.{self._count}",
        ]
        self._others.append(
            subprocess.Popen([ray_command, *words, "--block"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )

    def kill(self, node):
        """End a node as a power cut would: Ray's processes on it, and with them all that they started."""
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def _end_others(self):
        for process in self._others:
            process.terminate()
            process.wait(60)
        self._others.clear()

    def close(self):
        self._end_others()
        ray.shutdown()
        self.cluster.shutdown()


def _commands():
    """Yield the id and the words of every process."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), Path(entry.path, "cmdline").read_text()


def actors():
    """The process ids of the actors that are alive."""
    return [pid for pid, words in _commands() if words.startswith("ray::NodeActor")]


def kill_an_actor():
    os.kill(actors()[0], signal.SIGKILL)


def wait_for(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(0.05)


def pause(pid):
    """Hold a process, as a network that is lost would."""
    os.kill(pid, signal.SIGSTOP)


def raylets():
    """The process ids of Ray's own processes on all nodes but the head."""
    return [pid for pid, words in _commands() if "raylet/raylet" in words.split("\0")[0] and "127.0.1." in words]
