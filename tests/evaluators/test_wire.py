import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_es.evaluators.wire import Board, pack_results, unpack_results
from torch_es.rollout import Snapshot
from torch_es.search import Mirrored
from torch_es.types import EpisodeResult, Task


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**32 - 1), st.integers(-1, 2**31 - 1), st.integers(0, 1000), st.integers(0, 2**31 - 1),
            st.floats(allow_nan=False), st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.integers(0, 9),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_unpack_reads_what_pack_wrote(rows):
    results = [
        EpisodeResult(
            Task(*row[:4]), *row[4:7], np.arange(4.0) if row[7] else None, None, np.ones(row[8]) if row[8] else None
        )
        for row in rows
    ]
    for got, want in zip(unpack_results(pack_results(results), 4), results, strict=True):
        assert got[:4] == want[:4]
        for own, other in ((got.moments, want.moments), (got.behaviour, want.behaviour)):
            assert (own is None) == (other is None)
            if other is not None:
                np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("sigma", [0.1, torch.full((5,), 0.1)], ids=["number", "vector"])
def test_a_snapshot_arrives_and_no_vector_travels(sigma):
    shot = Snapshot(torch.arange(5.0), Mirrored(3, 1, 5, sigma), (np.zeros(2), np.ones(2)), 7)
    board = Board(shot)
    message = board.dump(shot._replace(theta=shot.theta + 1))
    got = board.load(message)
    assert got.theta.tolist() == [1, 2, 3, 4, 5]
    assert got.max_steps == 7
    assert got.weights(3, torch.empty(5)).equal(shot._replace(theta=shot.theta + 1).weights(3, torch.empty(5)))
    large = Snapshot(torch.zeros(100_000), Mirrored(3, 1, 100_000, 0.1))
    assert len(Board(large).dump(large)) < 1000


def test_a_tensor_that_was_not_there_before_travels_with_the_message():
    board = Board(Snapshot(torch.zeros(5), Mirrored(3, 1, 5, 0.1)))
    shot = Snapshot(torch.ones(5), Mirrored(3, 1, 5, torch.arange(5.0)))
    assert board.load(board.dump(shot)).perturbation.sigma.tolist() == [0, 1, 2, 3, 4]


def test_a_behaviour_may_be_long():
    result = EpisodeResult(Task(0, 1), 1.5, 10, False, None, None, np.arange(70_000.0))
    (unpacked,) = unpack_results(pack_results([result]), moments_size=0)
    assert np.array_equal(unpacked.behaviour, result.behaviour)
