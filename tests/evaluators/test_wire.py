import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from torch_es.evaluators.wire import pack_results, unpack_results
from torch_es.types import EpisodeResult, Task


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**40), st.integers(-1, 2**31 - 1), st.sampled_from([-1, 0, 1]), st.integers(0, 1000),
            st.floats(allow_nan=False), st.integers(0, 2**32 - 1), st.booleans(), st.booleans(),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_unpack_reads_what_pack_wrote(rows):
    results = [
        EpisodeResult(Task(g, p, s, e), r, n, t, np.arange(4.0) if m else None) for g, p, s, e, r, n, t, m in rows
    ]
    for got, want in zip(unpack_results(pack_results(results), 4), results, strict=True):
        assert got[:4] == want[:4]
        assert (got.moments is None) == (want.moments is None)
        if want.moments is not None:
            np.testing.assert_array_equal(got.moments, want.moments)
