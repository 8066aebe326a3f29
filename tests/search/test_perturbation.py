import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_es.search.noise import BLOCK, num_blocks
from torch_es.search.perturbation import Mirrored, Unperturbed, chunks, max_chunks, serial_sum
from torch_es.search.sfc64 import SFC64Noise


def eps_of(pairs, dim, generation=4, seed=3):
    eps = torch.empty(pairs, dim)
    SFC64Noise(seed, dim).fill(eps, generation, range(pairs))
    return eps.double().numpy()


@pytest.mark.parametrize("sigma", [0.5, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])], ids=["number", "vector"])
def test_members_are_mirrored_around_the_centre(sigma):
    mirrored = Mirrored(3, 4, 5, sigma)
    theta, out = torch.arange(5.0), torch.empty(5)
    members = [mirrored.member(theta, number, out).clone() for number in (3, 0, 1, 2)]  # in any order
    eps = torch.from_numpy(eps_of(2, 5)).float() * sigma
    for found, expected in zip(members, (theta - eps[1], theta + eps[0], theta - eps[0], theta + eps[1]), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_copy_that_travelled_makes_the_same_members():
    mirrored = Mirrored(3, 4, 5, 0.5)
    mirrored.member(torch.zeros(5), 0, torch.empty(5))
    copy = pickle.loads(pickle.dumps(mirrored))
    assert copy.member(torch.zeros(5), 1, torch.empty(5)).equal(mirrored.member(torch.zeros(5), 1, torch.empty(5)))


def test_unperturbed_members_are_the_centre():
    theta = torch.arange(3.0)
    assert Unperturbed(4).member(theta, 2, torch.empty(3)) is theta


@pytest.mark.parametrize(("dim", "pairs"), [(10, 2), (10, 200), (BLOCK + 3, 130)])
def test_both_sums_are_what_they_say(dim, pairs):
    rng = np.random.default_rng(0)
    linear, squared = rng.normal(size=pairs), rng.normal(size=pairs)
    eps = eps_of(pairs, dim)
    sums = serial_sum(Mirrored(3, 4, dim, 1.0), linear, squared)
    np.testing.assert_allclose(sums[0], linear @ eps, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sums[1], squared @ eps**2, rtol=1e-4, atol=1e-4)
    assert serial_sum(Mirrored(3, 4, dim, 1.0), linear).shape == (1, dim)


@given(st.integers(1, 200_000_000), st.integers(1, 20_000))
def test_chunks_cover_the_pairs_and_partial_sums_stay_small(dim, pairs):
    cut = chunks(dim, pairs)
    assert [pair for chunk in cut for pair in chunk] == list(range(pairs))
    assert len(cut) <= max_chunks(dim)
    assert len(cut) == 1 or len(cut) * dim * 2 * 4 < 64 * 2**20


def test_a_small_network_and_many_pairs_have_work_for_every_worker():
    assert len(chunks(5_702, 5_000)) * num_blocks(5_702) >= 64
