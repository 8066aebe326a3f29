"""Agents that are trained in one process and loaded in another, as the pages say, and asked there."""

import sys

import numpy as np
import torch
from tensordict import TensorDict
from tensordict.nn import InteractionType, TensorDictModule, set_interaction_type
from torch import nn
from torch.distributions import Categorical
from torchrl.modules import OneHotCategorical, ProbabilisticActor

from torch_es.nn import ObservationNorm

RAW = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32) * np.float32([1, 2, 0.1, 2])


def network():
    return nn.Sequential(ObservationNorm(4), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


class Agent(nn.Module):
    """As in CleanRL's ppo.py, with the layer that stands for its NormalizeObservation."""

    def __init__(self):
        super().__init__()
        self.actor, self.critic = network(), nn.Linear(4, 1)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


def actor():
    module = TensorDictModule(network(), in_keys=["observation"], out_keys=["logits"])
    return ProbabilisticActor(module, in_keys=["logits"], distribution_class=OneHotCategorical)


def asked(name, kept):
    """What an agent does on raw observations, by its own methods."""
    x = torch.from_numpy(RAW)
    with torch.no_grad(), set_interaction_type(InteractionType.DETERMINISTIC):
        if name == "agent":
            scores = [kept.get_action_and_value(x, torch.full((64,), a))[1] for a in (0, 1)]
            return torch.stack(scores, 1).argmax(1).tolist()
        return kept(TensorDict(observation=x, batch_size=[64]))["action"].long().argmax(1).tolist()


if __name__ == "__main__":
    for made in (Agent(), actor()):
        name = "agent" if isinstance(made, Agent) else "actor"
        made.load_state_dict(torch.load(f"{sys.argv[1]}/{name}.pt"))
        print(asked(name, made))
