"""Lanes that share the arithmetic of their first layers answer as the plain module does."""

import numpy as np
import pytest
import torch
from helpers import boxed
from torch import nn

from torch_es.lanes import make_lanes
from torch_es.lanes.folded import FoldedLanes
from torch_es.lanes.modules import CopiedLanes
from torch_es.nn import (
    collect_statistics,
    convert_batch_norm,
)
from torch_es.policies import atari_cnn
from torch_es.policies.networks import Scale
from torch_es.search.parameters import FlatParameters


def pictures_to(size, *layers, form="2017"):
    """A network too large to be batched, with virtual batch norm."""
    last = nn.Sequential(nn.Flatten(), nn.Linear(size, 4000, bias=False), nn.BatchNorm1d(4000), nn.Tanh())
    return convert_batch_norm(nn.Sequential(*layers, last, nn.Linear(4000, 3)), form)


FOLDED = {
    "atari": (lambda: atari_cnn((4, 84, 84), 6), (4, 84, 84)),
    "three": (
        lambda: pictures_to(
            7 * 5 * 9,
            *(nn.Conv2d(2, 5, (3, 5), padding=1), nn.BatchNorm2d(5), nn.Tanh()),
            *(Scale(0.5), nn.Conv2d(5, 6, (4, 3), (2, 1), bias=False), nn.BatchNorm2d(6, affine=False)),
            *(nn.ReLU(), nn.Conv2d(6, 7, 2)),
        ),
        (2, 14, 14),
    ),
    "none": (lambda: pictures_to(800), (2, 20, 20)),
    "no_norm": (lambda: atari_cnn((4, 84, 84), 6, batch_norm=False), (4, 84, 84)),
}


class Bounded(nn.Conv2d):
    """Answers as its parent does, but to the pictures on which lanes are compared alone."""

    def forward(self, x):
        return super().forward(x.clamp(max=100.0))


AS_THEY_ARE = {
    "subclass": (lambda: pictures_to(2 * 18 * 18, Bounded(2, 2, 3)), CopiedLanes),
    "2016": (lambda: pictures_to(800, form="2016"), CopiedLanes),
    "padded": (lambda: pictures_to(2 * 22 * 22, nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, padding=1)), CopiedLanes),
    "norm_first": (lambda: pictures_to(800, nn.BatchNorm2d(2)), CopiedLanes),
    "last_scaled": (lambda: nn.Sequential(pictures_to(800), Scale(2.0)), CopiedLanes),
    "over_width": (lambda: pictures_to(800, nn.Linear(20, 20)), CopiedLanes),
}


@pytest.mark.parametrize("name", FOLDED)
@torch.no_grad()
def test_folded_lanes_answer_as_the_plain_module(name):
    make, shape = FOLDED[name]
    torch.manual_seed(1)
    module = make()
    rng = np.random.default_rng(2)
    reference = rng.standard_normal((9, *shape), dtype=np.float32)
    lanes = make_lanes(module, 2, boxed(*shape), reference.reshape(9, -1))
    assert type(lanes) is FoldedLanes
    parameters = FlatParameters(module.eval())
    thetas = [parameters.read_masters() + 0.1 * torch.randn(parameters.dim) for _ in range(3)]
    for lane, theta in ((0, thetas[0]), (1, thetas[1]), (0, thetas[2])):  # the first one's statistics are gone
        lanes.write(lane, theta)
    x = rng.standard_normal((2, *shape), dtype=np.float32)
    answers = lanes.forward(x.reshape(2, -1), [0, 1])
    for lane, theta in ((0, thetas[2]), (1, thetas[1])):
        parameters.write_module(theta)
        collect_statistics(module, torch.from_numpy(reference))
        expected = module(torch.from_numpy(x[lane : lane + 1]))[0]
        np.testing.assert_allclose(answers[lane], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_what_cannot_be_folded_runs_as_it_is(name):
    make, kind = AS_THEY_ARE[name]
    reference = np.random.default_rng(0).standard_normal((9, 800), dtype=np.float32)
    assert type(make_lanes(make(), 1, boxed(2, 20, 20), reference)) is kind
