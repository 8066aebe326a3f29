"""Every space that Gymnasium offers, through every door: each is taken rightly, or refused in words."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    OneOf,
    Sequence,
    Text,
    Tuple,
)  # fmt: skip
from sample_spaces import BOX3, Leafwise, Random
from torch.utils._pytree import tree_leaves, tree_map

from torch_es import ES
from torch_es.heads import make_head
from torch_es.hub import HubPolicy
from torch_es.policies import Policy

POINT = Box(np.array([0.0, 0.0]), np.array([1.0, 5.0]), dtype=np.float64)
LEAVES = {
    "discrete": Discrete(3),
    "discrete one": Discrete(1),
    "discrete below zero": Discrete(3, start=-1),
    "discrete int32": Discrete(4, start=1, dtype=np.int32),
    "discrete far": Discrete(3, start=2**40),
    "box": Box(0.0, 1.0),
    "box scalar": Box(0.0, 1.0, ()),
    "box four axes": Box(-1.0, 1.0, (1, 1, 2, 1)),
    "box below": Box(-np.inf, 0.0, (2, 1)),
    "box above": Box(0.0, np.inf, (2, 2)),
    "box one point": Box(3.0, 3.0, (2,)),
    "box float64": Box(np.array([-10.0, 0.0]), np.array([10.0, 10.0]), dtype=np.float64),
    "box float16": Box(-1.0, 1.0, (2,), np.float16),
    "box bool": Box(np.array([0, 0, 1]), np.array([1, 0, 1]), dtype=np.bool_),
    "box int8": Box(-5, 5, (2,), np.int8),
    "box int32": Box(np.array([-np.inf, -np.inf, 0, -10]), np.array([np.inf, 0, np.inf, 10]), dtype=np.int32),
    "box int64": Box(-(2**63), 2**63 - 1, (2,), np.int64),
    "box uint16": Box(0, 65535, (3,), np.uint16),
    "box uint64": Box(0, 2**64 - 1, (2,), np.uint64),
    "picture": Box(0, 255, (2, 2, 3), np.uint8),
    "multidiscrete": MultiDiscrete([2, 2]),
    "multidiscrete start": MultiDiscrete([[2, 3], [3, 2]], start=[[10, 20], [30, 40]]),
    "multidiscrete int8": MultiDiscrete([2, 3], dtype=np.int8),
    "multidiscrete uint16": MultiDiscrete([2, 3], dtype=np.uint16),
    "multidiscrete uint32": MultiDiscrete([2, 3], dtype=np.uint32),
    "multibinary": MultiBinary(8),
    "multibinary square": MultiBinary([2, 3]),
}
SPACES = {
    **LEAVES,
    "tuple": Tuple([Discrete(5), POINT]),
    "tuple in tuple": Tuple([Discrete(5), Tuple([Box(0.0, 1.0, (3,)), Discrete(2)])]),
    "dict": Dict(position=Discrete(6), velocity=POINT),
    "dict in dict": Dict(a=Box(0, 1, (3, 3)), b=Dict(c=Box(-100, 100, (2,)), d=MultiBinary(2)), e=Discrete(4)),
    "dict with points": Dict({"a.b": Discrete(2), "a": Box(0, 1, (2,)), "empty": Box(0, 1, (0,))}),
    "dict in tuple": Tuple([Discrete(3), Dict(position=Box(0.0, 1.0), velocity=Discrete(2))]),
}
NODES = Box(-1, 1, (2,))
REFUSED = {
    "text": Text(6),
    "graph": Graph(NODES, None),
    "sequence": Sequence(Discrete(4)),
    "stacked": Sequence(Dict(a=NODES, b=Discrete(5)), stack=True),
    "one of": OneOf([Discrete(3), NODES]),
    "own": gym.Space(),
    "graph in tuple": Tuple([Graph(NODES, Discrete(4)), Discrete(2)]),
    "text in dict": Dict(a=Dict(b=Text(3)), c=NODES),
}
EMPTY = {"box": Box(0, 1, (0,)), "dict": Dict(), "tuple": Tuple([]), "dict in dict": Dict(a=Dict())}


@pytest.mark.parametrize("kind", SPACES)
def test_a_space_of_observations_and_actions_goes_through_every_door(kind, tmp_path):
    space = SPACES[kind]
    space.seed(0)

    def network():
        return Leafwise(space, make_head(space, "clip").size)

    with ES(network(), lambda: Random(space, space), num_pairs=2, sigma=0.5, num_workers=0, eval_every=0) as es:
        es.learn(20)  # `Random` refuses an action that is none of its space
        es.evaluate(1)
        es.save(tmp_path / "s")
    observations = [space.sample() for _ in range(3)]
    actions = [es.predict(observation)[0] for observation in observations]
    assert all(map(space.contains, actions)), actions
    batch = tree_map(lambda *rows: np.stack(rows), *observations)
    together = es.predict(batch)[0]
    loaded = ES.load(tmp_path / "s", network(), lambda: Random(space, space), num_workers=0)
    shared = HubPolicy(es.network, space, space)
    shared.save_pretrained(tmp_path / "h")
    shared = HubPolicy.from_pretrained(tmp_path / "h", network=network())
    for number, observation in enumerate(observations):
        one = tree_map(lambda rows, at=number: rows[at, ...], together)
        assert space.contains(one)
        for action in (one, loaded.predict(observation)[0], shared.act(observation)[0]):
            assert space.contains(action)
            for own, right in zip(tree_leaves(action), tree_leaves(actions[number]), strict=True):
                assert own.dtype == right.dtype
                np.testing.assert_allclose(own, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_all_spaces_together_can_be_exported(form, tmp_path):
    every = Dict(LEAVES)
    policy = Policy(Leafwise(every, make_head(every, "clip").size), every, every)
    assert policy.export(tmp_path / f"policy.{form}").is_file()  # it was compared with the policy


@pytest.mark.parametrize("role", ["observation_space", "action_space"])
@pytest.mark.parametrize("kind", [*REFUSED, *(f"empty {kind}" for kind in EMPTY)])
def test_any_other_space_is_refused_in_words(kind, role):
    empty = EMPTY.get(kind.removeprefix("empty "))
    space = REFUSED[kind] if empty is None else empty
    spaces = {"observation_space": BOX3, "action_space": Discrete(2), role: space}
    rule = f"`{role}` must " + ("be a? ?Box, .* got " if empty is None else "have at least one element")
    with pytest.raises(ValueError, match=rule):
        Policy(torch.nn.Linear(3, 2), **spaces)


def test_a_space_that_gymnasium_cannot_flatten_is_refused():
    with pytest.raises(ValueError, match="`observation_space` holds a MultiDiscrete of uint64"):
        Policy(torch.nn.Linear(5, 2), MultiDiscrete([2, 3], dtype=np.uint64), Discrete(2))
