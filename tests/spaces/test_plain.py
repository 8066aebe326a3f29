"""Spaces as data: what comes back from JSON is the space, and what is no description of one says so."""

import json

import pytest
from gymnasium.spaces import Discrete, Text
from sample_spaces import ACTIONS, OBSERVATIONS

from torch_es.spaces.plain import plain_space, space_of

SPACES = {**OBSERVATIONS, **{name: space for name, (space, *_) in ACTIONS.items()}}


@pytest.mark.parametrize("name", SPACES)
def test_a_space_comes_back_from_json(name):
    space = SPACES[name]
    again = space_of(json.loads(json.dumps(plain_space(space), allow_nan=False)))
    assert again == space
    assert again.dtype == space.dtype
    assert all(again.contains(space.sample()) for _ in range(5))


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
