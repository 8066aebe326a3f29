import numpy as np
import pytest
import torch
from helpers import boxed
from torch import nn

from torch_es.lanes import make_lanes
from torch_es.lanes.matmul import MatmulLanes
from torch_es.nn import (
    Sign,
    Step,
)


@pytest.mark.parametrize("unit", [Step, Sign])
def test_stacked_units_have_the_modules_value_at_zero(unit):
    module = nn.Sequential(nn.Linear(4, 2), unit())
    lanes = make_lanes(module, 1, boxed(4))
    assert isinstance(lanes, MatmulLanes)
    lanes.write(0, torch.zeros(10))
    np.testing.assert_array_equal(lanes.forward(np.ones((1, 4), np.float32), [0]), [[1, 1]])
