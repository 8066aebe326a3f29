"""Whatever one keeps acts, in another process and on raw observations, as it was evaluated."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from kept_agents import RAW, Agent, actor, asked

from torch_es import ES
from torch_es.adapters import from_cleanrl, from_tensordict


def test_agents_of_cleanrl_and_torchrl_act_as_they_were_evaluated(tmp_path):
    expected = []
    for name, kept, take in (("agent", Agent(), from_cleanrl), ("actor", actor(), from_tensordict)):
        untrained = asked(name, kept)
        adam = partial(torch.optim.Adam, lr=0.05)
        es = ES(take(kept), "CartPole-v1", num_pairs=4, num_workers=0, sigma=0.2, optimizer=adam).learn(2000)
        assert es.policy.observation_norm.count == es.trainer.total_timesteps
        expected.append(es.predict(RAW)[0].tolist())
        assert asked(name, kept) == expected[-1] != untrained
        torch.save(kept.state_dict(), tmp_path / f"{name}.pt")
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parents[1] / "kept_agents.py"), str(tmp_path)]
    answers = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert answers == list(map(str, expected))
