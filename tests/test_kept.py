"""What you keep acts as it was evaluated: saved, loaded in a fresh process, and called on raw observations."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from kept import DOORS, SB3, SMALL

from torch_es import ES


def test_what_you_keep_acts_as_it_was_evaluated_at_every_door(tmp_path):
    expected, seeds = {}, {}

    def evaluated(door, es):
        played = es.evaluate(2)
        expected[door] = [result.return_ for result in played]
        seeds[door] = [es.trainer.rules.environment_seed(es.seed, result.task) for result in played]

    for door, (make, taken, save, _) in DOORS.items():
        module = make()
        with ES(taken(module), "CartPole-v1", **SMALL) as es:
            es.learn(1_500)
            evaluated(door, es)
            assert es.policy.observation_norm.count >= 1_500
            save(module, es, tmp_path)
    model = SB3().learn(1_500)
    evaluated("sb3", model.es)
    torch.save(model.policy.state_dict(), tmp_path / "sb3.pt")
    script = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "kept.py"), str(tmp_path)]
    done = subprocess.run([*script, json.dumps(seeds)], capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {door: list(map(float, returns)) for door, *returns in lines} == expected, done.stderr
    assert len({tuple(returns) for returns in expected.values()}) > 1
