"""One contract over every head, noise and action space."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Tuple
from sample_spaces import ACTIONS, BOX3, Random
from torch import nn

from torch_es import ES
from torch_es.heads import make_action_noise, make_head, unbatched


@pytest.mark.parametrize("kind", ACTIONS)
def test_every_action_space_gets_actions_of_its_own(kind):
    space, box_head, size = ACTIONS[kind]
    head = make_head(space, box_head)
    assert head.size == size
    outputs = np.random.default_rng(0).normal(scale=2, size=(50, size)).astype(np.float32)
    outputs[-20:] *= 50  # to the bounds
    actions = unbatched(head(outputs), 50)
    assert all(space.contains(action) for action in actions)
    assert len({str(action) for action in actions}) > 1
    assert str(unbatched(head(outputs[7:8]), 1)[0]) == str(actions[7])
    tensors = head(torch.from_numpy(outputs))
    if not isinstance(space, (Dict, Tuple)):
        np.testing.assert_allclose(tensors.numpy(), actions, rtol=1e-5)
        assert tensors.numpy().dtype == actions.dtype
    noise = make_action_noise(space, head, "gaussian:0.5") if isinstance(space, Box) else None
    if noise is not None:
        draws = np.stack([noise.draw(np.random.default_rng(i)) for i in range(50)])
        assert all(space.contains(action) for action in noise(outputs, draws))
    with ES(nn.Linear(3, size), lambda: Random(BOX3, space), box_head=box_head, num_pairs=3, num_workers=0) as es:
        es.learn(200)
        assert space.contains(es.predict(np.zeros(3, np.float32))[0])
