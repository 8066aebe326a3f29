import numpy as np
import pytest

from torch_es.checks import check_choice, check_count, check_flag, check_positive, differences, flat, suggestion


@pytest.mark.parametrize("given", [1, 0.5, np.float32(2), np.int64(3), 1e-300])
def test_positive_numbers_of_any_library_are_taken(given):
    assert check_positive("sigma", given) == given
    assert type(check_positive("sigma", given)) is float


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (0, ValueError, "`sigma` must be positive, got 0"),
        (float("inf"), ValueError, "`sigma` must be positive, got inf"),
        (float("nan"), ValueError, "`sigma` must be positive, got nan"),
        (True, TypeError, "`sigma` must be a positive number, got True of type bool"),
        ("1", TypeError, "`sigma` must be a positive number, got '1' of type str"),
        (None, TypeError, "got None of type NoneType"),
    ],
)
def test_what_is_no_positive_number_is_named(given, kind, message):
    with pytest.raises(kind, match=message):
        check_positive("sigma", given)


def test_whole_numbers_may_be_written_as_floats_and_nothing_else():
    assert [check_count("n", given) for given in (3, 1e6, np.int8(4), np.float64(2))] == [3, 1_000_000, 4, 2]
    for given in (2.5, True, "3", None, float("inf"), float("nan")):
        with pytest.raises(TypeError, match="`n` must be a whole number, got "):
            check_count("n", given)
    with pytest.raises(ValueError, match="`n` must be at least 1, got 0"):
        check_count("n", 0)


@pytest.mark.parametrize("given", ["no", "false", 0, 1, None, np.True_])
def test_only_true_and_false_are_flags(given):
    assert check_flag("video", True) is True
    with pytest.raises(TypeError, match="`video` must be true or false, got "):
        check_flag("video", given)


def test_a_choice_names_all_and_the_nearest_in_any_case():
    assert check_choice("shaping", "sign", ["sign", "ranks"]) == "sign"
    with pytest.raises(ValueError, match=r"must be one of ranks, sign; got 'SIGM'\. Did you mean `sign`\?"):
        check_choice("shaping", "SIGM", ["sign", "ranks"])
    assert suggestion("zebra", ["sign", "ranks"]) == ""


def test_differences_of_trees_name_every_key():
    then, now = flat({"a": {"b": 1, "c": {}}, "d": 2}), flat({"a": {"b": 1, "c": {"e": 3}}})
    assert differences(then, now) == "`a.c` was {}, is absent; `a.c.e` was absent, is 3; `d` was 2, is absent"
    assert differences(then, then) == ""
