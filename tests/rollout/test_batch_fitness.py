"""Batches for a fitness function: the same for all members, one member at a time or several in a call."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from torch_es import ES, BatchFitness
from torch_es.rollout.batch_fitness import within_prompts


def batches(generation):
    return torch.randn(6, 20, generator=torch.Generator().manual_seed(generation))


def each(module, x):
    """A fitness for each prompt."""
    return -(module(x)[:, 0] - x[:, 0]).square()


def mean(module, x):
    return each(module, x).mean()


def together(module, x, members, reduce=False):
    rows = each(module, x.repeat(members, 1)).view(members, -1) if members > 1 else each(module, x)
    return rows.mean(-1) if reduce else rows


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.LayerNorm(30), nn.Tanh(), nn.Linear(30, 2))


def trained(fitness, generations=4, num_workers=0, **options):
    options = {"sigma": 0.05, "num_pairs": 10, "rank": 1, "eval_every": 2, **options}
    with ES(network(), fitness_fn=fitness, num_workers=num_workers, **options) as es:
        rows = []
        es.learn(10**9, callback=lambda row: rows.append(row) or row["time/iterations"] < generations)
        return es.strategy.theta, rows


@pytest.mark.parametrize("compared", [False, True], ids=["mean", "within prompts"])
def test_workers_and_this_process_give_the_same_bits(compared):
    fitness = BatchFitness(each, batches, within_prompts=compared)
    theta, _ = trained(fitness)
    assert trained(fitness, num_workers=2)[0].equal(theta)
    assert not trained(BatchFitness(each, batches, within_prompts=not compared))[0].equal(theta)
    if not compared:
        assert trained(BatchFitness(mean, batches))[0].equal(theta)


@pytest.mark.parametrize("members", [3, 4, 20, 30])
@pytest.mark.parametrize("compared", [False, True], ids=["mean", "within prompts"])
def test_several_members_in_a_call_answer_as_one_by_one(members, compared):
    one = BatchFitness(each, batches, within_prompts=compared)
    several = BatchFitness(partial(together, members=members), batches, members, within_prompts=compared)
    (_, expected), (_, rows) = trained(one), trained(several)
    # ranks may swap where two members are almost equal, so what is compared is the first generation's returns
    names = ["rollout/ep_rew_mean", "rollout/ep_rew_std", "rollout/ep_rew_max", "eval/mean_reward"]
    for name in names:
        assert rows[0][name] == pytest.approx(expected[0][name], rel=1e-4)
    assert rows[-1]["rollout/ep_rew_mean"] == pytest.approx(expected[-1]["rollout/ep_rew_mean"], rel=0.05)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("policy", [network, network()], ids=["made there", "sent"])
def test_several_members_in_a_call_of_a_worker_stand_around_the_present_centre(policy, workers):
    fitness = BatchFitness(partial(together, members=5), batches, 5)
    expected, rows = trained(fitness, generations=6)
    options = {"sigma": 0.05, "num_pairs": 10, "rank": 1, "eval_every": 2, "num_workers": workers}
    with ES(copy.deepcopy(policy), fitness_fn=fitness, **options) as es:
        found = []
        es.learn(10**9, callback=lambda row: found.append(row) or row["time/iterations"] < 6)
    for ours, theirs in zip(found, rows, strict=True):
        assert ours["rollout/ep_rew_mean"] == pytest.approx(theirs["rollout/ep_rew_mean"], rel=1e-3)
    torch.testing.assert_close(es.strategy.theta, expected, rtol=0, atol=0.02)


def test_a_run_that_is_loaded_goes_on_in_workers_with_its_own_weights(tmp_path):
    fitness = BatchFitness(partial(together, members=5), batches, 5)
    options = {"num_pairs": 10, "rank": 1, "eval_every": 0}
    with ES(network, fitness_fn=fitness, num_workers=0, **options) as es:
        es.learn(100).save(tmp_path / "es")
        expected = es.evaluate(1)[0].return_
    with ES.load(tmp_path / "es", network, fitness_fn=fitness, num_workers=1) as loaded:
        assert loaded.evaluate(1)[0].return_ == pytest.approx(expected, rel=1e-5)
        assert loaded.play(member=4).return_ == pytest.approx(es.play(member=4).return_, rel=1e-5)


def test_one_number_for_each_of_several_members_and_the_calls_are_few():
    calls = []

    def fitness(module, x):
        calls.append(x)
        return together(module, x, 5, reduce=True)

    module = network()
    before = copy.deepcopy(module.state_dict())
    es = ES(module, fitness_fn=BatchFitness(fitness, batches, 5), num_workers=0, num_pairs=10, rank=1, eval_every=0)
    es.play(member=3)
    assert all(value.equal(before[name]) for name, value in module.state_dict().items())
    calls.clear()
    es.close()
    es.learn(1)
    assert len(calls) == 5  # four, and one to see that a member is worth the same by itself
    assert all(x is calls[0] for x in calls)  # a batch is made once a generation


class Mixing(nn.Module):
    """Its rows depend on each other."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(20, 6)

    def forward(self, x):
        return self.inner(x) + 100 * self.inner(x).mean(0)


@pytest.mark.parametrize(("module", "warned"), [(Mixing, True), (network, False)], ids=["mixing", "apart"])
def test_rows_that_depend_on_each_other_are_noticed(module, warned, caplog):
    fitness = BatchFitness(partial(together, members=4), batches, 4)
    es = ES(module(), fitness_fn=fitness, num_workers=0, num_pairs=4, rank=1, sigma=0.1, eval_every=0).learn(1)
    assert ("depend on each other or on chance, or rounding decides" in caplog.text) is warned
    assert es.strategy.generation == 1


def test_a_run_is_resumed_and_replayed_to_the_bit(tmp_path):
    fitness = BatchFitness(partial(together, members=4), batches, 4, within_prompts=True)

    def make(limit, folder):
        es = ES(network(), fitness_fn=fitness, num_workers=0, num_pairs=6, rank=1)
        return es.learn(10**9, lambda row: row["time/iterations"] < limit, folder=tmp_path / folder, resume=True)

    straight = make(5, "straight")
    make(2, "halves")
    assert make(5, "halves").strategy.theta.equal(straight.strategy.theta)
    again = ES(network(), fitness_fn=fitness, num_workers=0, num_pairs=6, rank=1)
    again.replay(tmp_path / "straight" / "replay.log", 5)
    assert again.strategy.theta.equal(straight.strategy.theta)


def test_it_learns():
    _, rows = trained(BatchFitness(partial(together, members=20), batches, 20), generations=60)
    assert rows[-1]["rollout/ep_rew_mean"] > rows[0]["rollout/ep_rew_mean"] / 2


def test_within_prompts_compares_members_and_leaves_out_those_that_failed():
    fitness = np.array([[1.0, 10.0, 7.0], [3.0, 30.0, 7.0], [np.nan, 20.0, 7.0]])
    np.testing.assert_allclose(within_prompts(fitness), [-2 / 3, 2 / 3, np.nan])
    np.testing.assert_allclose(within_prompts(fitness * 1000 + 5), [-2 / 3, 2 / 3, np.nan])
    assert np.isnan(within_prompts(np.full((2, 3), np.nan))).all()


def test_a_member_with_a_prompt_that_is_not_a_number_is_left_out():
    calls = []

    def fitness(module, x):
        values = each(module, x)
        calls.append(module)
        values[0] = float("nan") if len(calls) == 5 else values[0]
        return values

    _, rows = trained(BatchFitness(fitness, batches, within_prompts=True), generations=1, eval_every=0)
    assert rows[0]["es/dropped_pairs"] == 1


@pytest.mark.parametrize(
    ("answer", "members", "error", "message"),
    [
        (lambda: None, 1, TypeError, "`fitness_fn` must return numbers, got None"),
        (lambda: torch.zeros(2, 2), 1, ValueError, r"must return a number or \(prompts,\) with `members_per_call=1`"),
        (lambda: torch.zeros(0), 1, ValueError, r"got shape \(0,\)"),
        (lambda: 1.0, 4, ValueError, r"must return \(4,\) or \(4, prompts\) with `members_per_call=4`, got shape \(\)"),
        (lambda: torch.zeros(3, 2), 4, ValueError, r"got shape \(3, 2\)"),
        (lambda: torch.zeros(4, 2, 2), 4, ValueError, r"got shape \(4, 2, 2\)"),
    ],
)
def test_an_answer_of_another_form_is_named(answer, members, error, message):
    fitness = BatchFitness(lambda module, batch: answer(), members_per_call=members)
    with pytest.raises(error, match=message):
        ES(network(), fitness_fn=fitness, num_workers=0, rank=1, eval_every=0).learn(1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BatchFitness(5), TypeError, "`fitness_fn` must be a function, got 5"),
        (lambda: BatchFitness(mean, 5), TypeError, "`batches` must be a function, got 5"),
        (lambda: BatchFitness(mean, batches, 0), ValueError, "`members_per_call` must be at least 1, got 0"),
        (
            lambda: ES(network(), fitness_fn=BatchFitness(mean, batches, 4)),
            ValueError,
            "`members_per_call` must be 1 without noise of low rank, got 4; give `rank=1`",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
