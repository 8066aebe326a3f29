"""Spaces as data: what comes back from JSON is the space, and what is no description of one says so."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from sample_spaces import ACTIONS, OBSERVATIONS

from torch_es.spaces import Layout
from torch_es.spaces.plain import plain_space, space_of

TYPED = [
    Discrete(4, start=1, dtype=np.int32),
    MultiDiscrete([2, 3], dtype=np.int8, start=[1, 0]),
    MultiDiscrete([[2, 3], [1, 4]]),
    MultiBinary((2, 3)),
    Box(0, 1, (2,), bool),
    Box(0, 1, ()),
    Box(0, 255, (2,), np.uint16),
    Box(0, 2**64 - 1, (2,), np.uint64),
    Box(-np.inf, np.array([1.0, np.inf], np.float32)),
    Tuple([Discrete(2), Dict(b=Discrete(2), a=Box(-1, 1, (2,)))]),
]
SPACES = {str(space): space for space in TYPED} | {
    **OBSERVATIONS,
    **{name: space for name, (space, *_) in ACTIONS.items()},
}


@pytest.mark.parametrize("name", SPACES)
def test_a_space_comes_back_from_json(name):
    space = SPACES[name]
    again = space_of(json.loads(json.dumps(plain_space(space), sort_keys=True, allow_nan=False)))
    assert again == space
    assert again.dtype == space.dtype
    assert all(again.contains(space.sample()) for _ in range(5))


def test_the_parts_of_a_dict_keep_their_order():
    """It is the order of an observation's row; huggingface_hub writes config.json with sorted keys."""
    space = Dict(b=Discrete(2), a=Discrete(3))
    again = space_of(json.loads(json.dumps(plain_space(space), sort_keys=True)))
    observation = {"a": 2, "b": 0}
    assert Layout(again).row(observation).tolist() == Layout(space).row(observation).tolist()


def test_a_space_that_policies_do_not_take_is_not_written_down():
    with pytest.raises(ValueError, match=r"A space must be a Box, .* to be written down, got Text"):
        plain_space(Text(3))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "os.system"}, "`kind` must be one of Box, "),
        ({"dtype": "object"}, "`dtype` must be one of "),
        ({"shape": [7]}, "describes no Box space"),
        ({"extra": 1}, "describes no Box space"),
    ],
)
def test_what_describes_no_space_is_refused(changed, message):
    plain = {**plain_space(SPACES["clip"]), **changed}
    with pytest.raises(ValueError, match=message):
        space_of(plain)
    with pytest.raises(ValueError, match="`kind` must be one of "):
        space_of([plain_space(Discrete(2))])
