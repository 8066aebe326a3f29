import numpy as np
import pytest
from helpers import Stepper

from torch_es import ES, EpisodeRules, mlp
from torch_es.envs import AdaptiveCap, MeanCap


@pytest.mark.parametrize(
    ("given", "text"),
    [(MeanCap(1.5), "mean:1.5"), (AdaptiveCap(3, 0.2, 1.5), "adaptive:3,0.2,1.5"), (AdaptiveCap(4), "members:4")],
)
def test_an_object_does_what_its_short_name_does(given, text):
    one, other = EpisodeRules(max_steps=given), EpisodeRules(max_steps=text)
    assert one.first_cap == other.first_cap
    cap = one.first_cap
    for lengths in ([3, 3, 1], [4, 2, 4], [9, 5, 2]):
        played = np.minimum(lengths, cap or 99)
        following = [rules.next_cap(cap, played, played < lengths) for rules in (one, other)]
        assert following[0] == following[1]
        cap = following[0]
    assert one.fixed_cap is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeanCap(1.0), "`ratio` must be above 1 and finite, got 1.0"),
        (lambda: AdaptiveCap(0), "`first` must be at least 1, got 0"),
        (lambda: AdaptiveCap(5, 1.5, 2.0), r"`threshold` must be a share in \(0, 1\], got 1.5"),
        (lambda: AdaptiveCap(5, 0.5, 1.0), "`ratio` must be above 1 and finite, got 1.0"),
        (lambda: EpisodeRules(max_steps=[3]), "`max_steps` must be a whole number"),
    ],
)
def test_bad_caps_are_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


class Growing:
    """One step more in each generation."""

    first = 1

    def following(self, cap, lengths, truncated):
        return cap + 1


def test_a_cap_of_ones_own_is_followed_and_asked_for_again(tmp_path):
    seen = []
    network = mlp(3, 1, (4,))
    with ES(network, Stepper, rules=EpisodeRules(max_steps=Growing()), num_pairs=2, num_workers=0, eval_every=0) as es:
        es.learn(100, callback=lambda row: seen.append(row["rollout/max_ep_length"]) or len(seen) < 3)
        es.save(tmp_path / "model")
    assert seen == [1, 2, 3]
    with pytest.raises(ValueError, match=r"`rules` \(it was `Growing`\) must be given again"):
        ES.load(tmp_path / "model", network, Stepper)
    again = ES.load(tmp_path / "model", network, Stepper, rules=EpisodeRules(max_steps=Growing()), num_workers=0)
    assert again.trainer.max_steps == 4
