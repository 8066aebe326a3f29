"""Fault F38: what leaves a run does as well in a process that knows nothing of the one that trained."""

import json
import re
import subprocess
import sys

import pytest
from harness import torch_es

from torch_es.cli import config
from torch_es.envs.rules import EpisodeRules
from torch_es.runs import checkpoint
from torch_es.types import Task

TRAIN = [
    "env=cartpole", "policy.hidden=[8]", "strategy.num_pairs=4", "strategy.sigma=0.2", "total_timesteps=6000",
    "video=false", "evaluator.num_workers=0", "final_episodes=10", "run_dir=r", "seed=3",
]  # fmt: skip

# what someone does with the two files, on a machine on which nothing was trained
ELSEWHERE = """
import json, sys
import gymnasium as gym, numpy as np, onnxruntime
from torch_es.cli import main
from torch_es.hub import HubPolicy

assert main(["evaluate", "r"]) == main(["export", "r"]) == main(["push", "r", "me/p", "--folder", "shared"]) == 0
session = onnxruntime.InferenceSession("r/policy.onnx")
shared = HubPolicy.from_pretrained("shared")
env, returns = gym.make("CartPole-v1"), {"export": [], "push": []}

def play(seed, act):
    observation, total, over = env.reset(seed=seed)[0], 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        total, over = total + reward, terminated or truncated
    return total

for seed in map(int, sys.argv[1:]):
    returns["export"].append(play(seed, lambda o: session.run(None, {"observation": o[None]})[0][0]))
    returns["push"].append(play(seed, lambda o: shared.act(o)[0]))
print(json.dumps({name: np.mean(values) for name, values in returns.items()}))
"""


@pytest.mark.slow
def test_F38_evaluate_export_and_push_do_as_well_elsewhere(tmp_path, tried):
    tried(3)
    code, out, error = torch_es(*TRAIN, cwd=tmp_path, OMP_NUM_THREADS="2", MUJOCO_GL="egl")
    assert code == 0, error
    logged = re.search(r"centre return ([\d,.]+ ± [\d.]+)", out)[1]
    mean = float(logged.split()[0].replace(",", ""))
    assert mean > 20  # it learned something: an untrained one has about 9
    generation = checkpoint.newest(tmp_path / "r" / "checkpoints")["strategy"]["generation"]
    seed = config.load_config(tmp_path / "r")["seed"]
    seeds = [str(EpisodeRules().environment_seed(seed, Task(generation, -1, i))) for i in range(10)]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *seeds],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"centre return {logged} over 10 episodes" in done.stdout
    assert json.loads((tmp_path / "shared" / "results.json").read_text())["mean_return"] == mean
    assert json.loads(done.stdout.splitlines()[-1]) == {"export": mean, "push": mean}
