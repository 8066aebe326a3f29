"""What cannot be sent to a worker is named by the argument of `ES` that holds it."""

import threading

import pytest
from helpers import Stepper

from torch_es import ES, mlp


class Rooted:
    """Can be copied, but not sent."""

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("it stays here")


def holding(attribute):
    network = mlp(3, 1)
    network.held = attribute
    return network


def played(num_workers, policy=None, env=Stepper, **options):
    with ES(policy or mlp(3, 1), env, num_workers=num_workers, **options) as es:
        return es.evaluate(1)[0].return_


def test_the_argument_is_named_and_the_way_out_fits_it():
    rooted = Rooted()
    for options, message in (
        ({"policy": holding(rooted)}, r"`policy\.held`, a Rooted: it stays here\. Keep it out of there, or use `num_w"),
        (
            {"env": lambda: rooted and Stepper()},
            r"`env\.rooted`, a Rooted: it stays here\. Make it inside the function",
        ),
        ({"behaviour": lambda observation, info: bool(rooted)}, r"`behaviour\.rooted`, a Rooted: .* Keep it out"),
    ):
        with pytest.raises(TypeError, match=f"A worker cannot be sent {message}"):
            played(1, **options)
        assert played(0, **options) < 0


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_policy_that_cannot_be_copied_is_refused_alike(num_workers):
    with pytest.raises(
        TypeError, match=r"^`policy` \(Sequential\) must be a module that can be copied, since each lane"
    ):
        played(num_workers, holding(threading.Lock()))
