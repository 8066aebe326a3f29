import itertools
from typing import get_args

import pytest

from torch_es.seeding import Purpose, check_seed, derive, derive_seed


def test_every_purpose_and_path_has_a_stream_of_its_own():
    paths = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (-1, 0), (2**62,)]
    named = list(itertools.product(get_args(Purpose), paths))
    assert len({derive(purpose, *path) for purpose, path in named}) == len(named)
    assert len({derive_seed(purpose, *path) for purpose, path in named}) == len(named)


def test_seeds_are_those_of_earlier_versions():
    """They name every run's environments and noise."""
    assert derive("noise", 0, 1).hex() == "02a21e7d6e214192"
    assert derive_seed("environment", 7, 0, 3) == 3215551960


def test_neighbours_are_unrelated():
    """Half of the bits of two seeds differ, give or take what chance allows."""
    pairs = [derive_seed("environment", n) ^ derive_seed("environment", n + 1) for n in range(500)]
    assert abs(sum(bin(pair).count("1") for pair in pairs) / len(pairs) - 16) < 5 * (8 / len(pairs)) ** 0.5


@pytest.mark.parametrize(("seed", "message"), [(-1, "at least 0, got -1"), (2**63, r"below 2\*\*63, got 92233")])
def test_what_is_no_seed_is_refused(seed, message):
    assert check_seed(2**63 - 1) == 2**63 - 1
    with pytest.raises(ValueError, match=f"`seed` must be {message}"):
        check_seed(seed)
