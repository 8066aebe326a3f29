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


@pytest.mark.parametrize("members", [3, 8])
def test_workers_and_this_process_give_the_same_bits_with_several_members_in_a_call(members):
    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(20, 17), nn.Linear(17, 9))  # whose rows have other bits in other places

    fitness = BatchFitness(partial(together, members=members), batches, members)
    options = {"rank": 1, "num_pairs": 10, "sigma": 0.05, "shaping": "identity", "eval_every": 2}
    thetas = []
    for workers in (0, 1, 2):
        with ES(make(), fitness_fn=fitness, num_workers=workers, **options) as es:
            es.learn(80)
            thetas.append(es.strategy.theta.clone())
    assert all(theta.equal(thetas[0]) for theta in thetas)


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
    assert len(calls) == 6  # four, and two to see that the first and the last are worth the same by themselves
    assert all(x is calls[0] for x in calls)  # a batch is made once a generation


class Mixing(nn.Module):
    """Its rows depend on each other."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)  # neighbours may be worth the same by chance
        self.inner = nn.Linear(20, 6)

    def forward(self, x):
        return self.inner(x) + 100 * self.inner(x).mean(0)


class Doubling(Mixing):
    """It leaves only the first rows as they are."""

    def forward(self, x):
        return self.inner(torch.cat([x, x.flip(1)]))[: len(x)]


class OneRow(Mixing):
    """To its layer the rows of all members are positions, so all get the answer of the first member."""

    def forward(self, x):
        return self.inner(x[None])[0]


def once(module, score=together, sigma=0.1, eval_every=0, k=4):
    fitness = BatchFitness(partial(score, members=k), batches, k)
    options = {"num_workers": 0, "num_pairs": 4, "rank": 1, "sigma": sigma, "eval_every": eval_every}
    with ES(module, fitness_fn=fitness, **options) as es:
        assert es.learn(1).strategy.generation == 1


@pytest.mark.parametrize("eval_every", [0, 1])
@pytest.mark.parametrize(("module", "warned"), [(Mixing, True), (Doubling, True), (OneRow, True), (network, False)])
def test_rows_that_depend_on_each_other_are_noticed(module, warned, eval_every, caplog):
    once(module(), eval_every=eval_every)
    assert ("depend on each other, or rounding decides" in caplog.text) is warned


def interleaved(module, x, members):
    return each(module, x.repeat_interleave(members, 0)).view(members, -1)


def shared_out(module, x, members):
    return each(module, x[:4]).view(members, -1)


def lucky(module, x, members):
    return together(module, x, members) * torch.rand(members, 1)


@pytest.mark.parametrize("score", [interleaved, shared_out, lucky])
def test_members_that_answer_other_prompts_are_noticed(score, caplog):
    def each_of_4(module, x, members):
        rows = score(module, x, members)
        return rows if rows.shape[1] > 1 else rows[:, 0]

    once(network(), partial(each_of_4))
    assert "in the slots of one call" in caplog.text
    assert "x.repeat(members_per_call, 1)" in caplog.text


@pytest.mark.parametrize("eval_every", [0, 1])
def test_a_module_of_low_precision_and_a_member_without_a_score_are_no_reason_for_a_warning(eval_every, caplog):
    def one_nan(module, x, members):
        rows = together(module, x.bfloat16(), members)
        if calls.append(None) or len(calls) == 1 + eval_every:
            rows[2] = torch.nan
        return rows

    calls = []
    once(network().bfloat16(), one_nan, eval_every=eval_every)
    assert len(calls) == 4 + eval_every
    assert "scores" not in caplog.text


def test_a_batch_that_is_a_dict_may_be_taken_apart_and_its_tensors_may_not_change():
    def score(module, batch, doubled=False):
        x = batch.pop("x")
        return mean(module, x.mul_(2) if doubled else x)

    def dicts(generation):
        return {"x": batches(generation)}

    theta, _ = trained(BatchFitness(score, dicts))
    assert theta.equal(trained(BatchFitness(mean, batches))[0])
    with pytest.raises(ValueError, match="`fitness_fn` must leave its batch as it is, but changed something in it"):
        trained(BatchFitness(partial(score, doubled=True), dicts))


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
        (lambda: None, 1, TypeError, "`fitness_fn` must return real numbers, as many for each member, got None"),
        (lambda: [[1.0, 2.0], [3.0]], 2, TypeError, "as many for each member, got a list"),
        (lambda: torch.zeros(2, dtype=torch.complex64), 1, TypeError, "`fitness_fn` must return real numbers"),
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
        (lambda: BatchFitness(mean, None), TypeError, "`batches` must be a function, got None"),
        (lambda: BatchFitness(mean, within_prompts="no"), TypeError, "`within_prompts`"),
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


def test_a_count_that_is_a_whole_float_counts():
    score = partial(together, members=4)
    theta, _ = trained(BatchFitness(score, batches, 4.0), rank=1.0)
    assert theta.equal(trained(BatchFitness(score, batches, 4))[0])


def test_prompts_that_vary_in_number_cannot_be_compared():
    def fitness(module, x):
        return each(module, x)[: 6 - len(calls.append(None) or calls) % 2]

    calls = []
    with pytest.raises(ValueError, match=r"must have 5 numbers each time, .* got 6; .* one for each prompt"):
        trained(BatchFitness(fitness, batches, within_prompts=True), generations=1, eval_every=0)


def test_an_array_that_is_changed_is_noticed():
    def score(module, batch):
        batch["y"] *= 0.5
        return float(batch["y"].sum())

    fitness = BatchFitness(score, lambda generation: {"y": np.arange(5.0)})
    with pytest.raises(ValueError, match="`fitness_fn` must leave its batch as it is"):
        ES(network(), fitness_fn=fitness, num_workers=0).learn(1)


def test_a_batch_that_the_first_member_would_use_up_is_refused():
    fitness = BatchFitness(lambda module, batch: float(next(batch)), lambda generation: iter([1.0]))
    with pytest.raises(TypeError, match="`batches` must return what can be read again for each member, got a list"):
        ES(network(), fitness_fn=fitness, num_workers=0).learn(1)


def test_a_list_of_tensors_is_a_row_of_scores():
    scores = [torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor(2.0, dtype=torch.bfloat16)]
    assert BatchFitness(mean).rows(scores).tolist() == [[0.5, 2.0]]
