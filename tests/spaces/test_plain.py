import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from torch_es.spaces import Layout
from torch_es.spaces.plain import plain_space, space_of

SPACES = [
    Discrete(4, start=1, dtype=np.int32),
    MultiDiscrete([2, 3], dtype=np.int8, start=[1, 0]),
    MultiDiscrete([[2, 3], [1, 4]]),
    MultiBinary((2, 3)),
    Box(0, 1, (2,), bool),
    Box(0, 1, ()),
    Box(0, 255, (2,), np.uint16),
    Box(0, 2**64 - 1, (2,), np.uint64),
    Box(-np.inf, np.array([1.0, np.inf])),
    Tuple([Discrete(2), Dict(b=Discrete(2), a=Box(-1, 1, (2,)))]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_comes_back_with_its_dtype(space):
    again = space_of(json.loads(json.dumps(plain_space(space), sort_keys=True, allow_nan=False)))
    assert again == space
    assert again.dtype == space.dtype


def test_the_parts_of_a_dict_keep_their_order():
    """It is the order of an observation's row; huggingface_hub writes config.json with sorted keys."""
    space = Dict(b=Discrete(2), a=Discrete(3))
    again = space_of(json.loads(json.dumps(plain_space(space), sort_keys=True)))
    observation = {"a": 2, "b": 0}
    assert Layout(again).row(observation).tolist() == Layout(space).row(observation).tolist()
