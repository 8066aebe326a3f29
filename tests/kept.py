"""What the pages tell a user to keep, by door: how it is made, trained, saved, and loaded in a process of its own."""

import json
import sys
from functools import partial
from pathlib import Path

import gymnasium as gym
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torch.distributions import Categorical

from torch_es import sb3 as from_sb3
from torch_es.adapters import from_cleanrl, from_tensordict
from torch_es.hub import HubPolicy
from torch_es.nn import ObservationNorm
from torch_es.policies import mlp

SMALL = {"num_pairs": 4, "sigma": 0.3, "num_workers": 0, "seed": 3}
CARTPOLE = gym.make("CartPole-v1")


class Agent(nn.Module):
    """As in CleanRL's ppo.py, with a layer in place of its normalising wrapper."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.critic = nn.Linear(4, 1)
        self.actor = nn.Sequential(ObservationNorm(4), nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


def tensordict_actor():
    torch.manual_seed(1)
    network = nn.Sequential(ObservationNorm(4), nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
    return TensorDictModule(network, in_keys=["observation"], out_keys=["logits"])


def greedy(network):
    return lambda observation: int(network(torch.tensor(observation)[None]).argmax())


def _loaded(module, file):
    module.load_state_dict(torch.load(file, weights_only=True))
    return module.eval()


def _onnx(folder):
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "p.onnx")
    return lambda observation: int(session.run(None, {"observation": observation[None]})[0][0])


def _hub(es, folder):
    policy = HubPolicy(mlp(4, 2), CARTPOLE.observation_space, CARTPOLE.action_space)
    policy.load_state_dict(es.policy.state_dict())
    policy.save_pretrained(folder / "hub")


SB3 = partial(from_sb3.ES, "MlpPolicy", "CartPole-v1", learning_rate=0.05, **SMALL)
DOORS = {  # what is trained; how ES takes it; how it is saved; what acts once loaded
    "plain": (lambda: mlp(4, 2), lambda m: m, lambda m, es, f: torch.save(m.state_dict(), f / "m.pt"),
              lambda f: greedy(_loaded(mlp(4, 2), f / "m.pt"))),
    "cleanrl": (Agent, from_cleanrl, lambda m, es, f: torch.save(m.state_dict(), f / "agent.pt"),
                lambda f: greedy(_loaded(Agent(), f / "agent.pt").actor)),
    "torchrl": (tensordict_actor, from_tensordict, lambda m, es, f: torch.save(m.state_dict(), f / "actor.pt"),
                lambda f: greedy(_loaded(tensordict_actor(), f / "actor.pt").module)),
    "hub": (lambda: mlp(4, 2), lambda m: m, lambda m, es, f: _hub(es, f),
            lambda f: lambda o: int(HubPolicy.from_pretrained(f / "hub", network=mlp(4, 2)).act(o)[0])),
    "onnx": (lambda: mlp(4, 2), lambda m: m, lambda m, es, f: es.policy.export(f / "p.onnx"), _onnx),
}  # fmt: skip


def play(act, seed):
    observation, _ = CARTPOLE.reset(seed=seed)
    total, done = 0.0, False
    while not done:
        observation, reward, terminated, truncated, _ = CARTPOLE.step(act(observation))
        total, done = total + reward, terminated or truncated
    return total


if __name__ == "__main__":
    folder, seeds = Path(sys.argv[1]), json.loads(sys.argv[2])
    acting = {door: load(folder) for door, (*_, load) in DOORS.items()}
    model = SB3()
    model.policy.load_state_dict(torch.load(folder / "sb3.pt", weights_only=True))
    acting["sb3"] = lambda observation: int(model.policy.predict(observation, deterministic=True)[0])
    for door, act in acting.items():
        print(door, *[play(act, seed) for seed in seeds[door]])
