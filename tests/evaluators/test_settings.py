"""What the user's script sets for the process holds in workers too."""

import sys
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper

from torch_es import ES
from torch_es.evaluators.settings import _SETTINGS, adopt, settings

OTHER = {
    "dtype": partial(torch.set_default_dtype, torch.float64),
    "device": partial(torch.set_default_device, "meta"),
    "precision": partial(torch.set_float32_matmul_precision, "medium"),
    "mkldnn": partial(setattr, torch.backends.mkldnn, "enabled", False),
    "quantized": partial(setattr, torch.backends.quantized, "engine", "onednn"),
    "deterministic": partial(torch.use_deterministic_algorithms, True, warn_only=True),
    "denormal": partial(torch.set_flush_denormal, True),
    "autocast": lambda: [
        set_(kind, value)
        for kind, dtype in (("cpu", torch.float16), ("cuda", torch.bfloat16))
        for set_, value in ((torch.set_autocast_enabled, True), (torch.set_autocast_dtype, dtype))
    ],
    "numpy": partial(np.seterr, divide="raise", invalid="ignore"),
    "gymnasium": partial(setattr, gym.logger, "min_level", 50),
    "registry": partial(gym.register, "Travelling-v0", Stepper),
    "recursion": partial(sys.setrecursionlimit, 12_345),
}


@pytest.fixture
def changed():
    before = settings()
    for change in OTHER.values():
        change()
    yield before
    adopt(before)


def other(before, module):
    """How many settings of this process are others than these."""
    return float(sum(one != other for one, other in zip(before, settings(), strict=True)))


def test_every_setting_travels(changed):
    assert len(OTHER) == len(_SETTINGS)
    assert other(changed, None) == len(OTHER)
    torch.set_default_device(None)  # of which the trainer itself would make its vectors
    parameters = torch.nn.Linear(2, 1, dtype=torch.float32)
    with ES(parameters, fitness_fn=partial(other, changed), num_pairs=2, num_workers=1) as es:
        assert es.evaluate(1)[0].return_ == other(changed, None) == len(OTHER) - 1


class Constant(torch.nn.Module):
    """Makes a tensor of the default type in its forward."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(5, 2)

    def forward(self, x):
        return self.linear(torch.cat([x, torch.full((len(x), 1), 0.1)], 1))


def test_a_default_dtype_trains_alike_with_and_without_workers(request):
    torch.set_default_dtype(torch.float64)
    request.addfinalizer(partial(torch.set_default_dtype, torch.float32))
    thetas = []
    for num_workers in (0, 1):
        torch.manual_seed(0)
        with ES(Constant(), "CartPole-v1", num_workers=num_workers, num_pairs=2, eval_every=0) as es:
            thetas.append(es.learn(60).strategy.theta)
    assert torch.equal(*thetas)
