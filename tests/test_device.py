"""A module on another device than the CPU: one that torch is given by `other_device.py`, and a GPU if there is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent / "on_other_device.py"


@pytest.fixture(scope="module", params=["other", *["cuda"] * torch.cuda.is_available()])
def told(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "es"
    run = subprocess.run([sys.executable, SCRIPT, folder, request.param], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1]) | {"device": request.param}


@pytest.mark.parametrize(
    "case",
    ["dense", "rank 1", "groups", "generate", "own loop", "ars", "gradient", "gradient of rank 1", "many pairs",
     "many pairs of rank 1", "empty", "empty, rank 1", "keeps gradients", "bfloat16", "pgpe", "resumed", "two devices",
     "two devices, rank 1", "defaults"],
)  # fmt: skip
def test_a_run_is_that_of_the_cpu(told, case):
    allowed = 0 if told["device"] == "other" else 1e-5  # a GPU sums products in an order of its own
    assert told["differ"][case] <= allowed


def test_what_needs_the_cpu_says_so(told):
    assert f"`0.weight` must be on the CPU, where the workers play, got {told['device']}:0" in told["refused"]["env"]
    assert "`noise` must be philox for parameters that are not on the CPU" in told["refused"]["sfc64"]


def test_a_run_there_says_so_and_keeps_what_it_saved(told):
    assert told["told"]["evaluator"] == "SerialEvaluator"  # each worker would have a copy of the module
    assert told["told"]["noise"] == "philox"
    assert told["told"]["update_ratio"] > 0
    assert told["told"]["saved theta stays"]
