import numpy as np
import torch
from helpers import boxed
from modules import Counting

from torch_es.lanes import make_lanes


def test_writing_a_lane_resets_its_buffers_and_no_others():
    lanes = make_lanes(Counting(), 2, boxed(4))
    theta = torch.cat([p.detach().reshape(-1) for p in Counting().parameters()])
    x = np.ones((2, 4), np.float32)
    for lane in (0, 1):
        lanes.write(lane, theta)
    first = lanes.forward(x, [0, 1]).copy()
    lanes.write(0, theta)
    second = lanes.forward(x, [0, 1])
    np.testing.assert_array_equal(second[0], first[0])
    np.testing.assert_allclose(second[1], 2 * first[1], rtol=1e-6)


def test_the_given_module_is_not_touched():
    module = Counting()
    module.train()
    make_lanes(module, 2, boxed(4))
    assert module.training
    assert module.calls.item() == 0
