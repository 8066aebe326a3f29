"""F29 to F34, F37 and F38: what is saved comes back to the bit, or says why not."""

import json
import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import ADAM, CONFIG, Faulty, bits, golden, make, rows, torch_es, train, until
from torch import nn

from torch_es import ES, mlp
from torch_es.envs.rules import EpisodeRules
from torch_es.runs import checkpoint
from torch_es.runs.folder import RunFolder
from torch_es.search import STRATEGIES
from torch_es.search.parameters import FlatParameters

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)
DECAY = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)


def own_sigma(parameters):
    """An optimiser with a sigma of its own for the first layer, which a callback lowers as training goes on."""
    first, *rest = parameters
    return torch.optim.AdamW([{"params": [first], "sigma": 0.2}, {"params": rest}], lr=0.02)


CASES = {
    "adam": {"optimizer": ADAM},
    "sgd and a schedule": {"optimizer": SGD, "scheduler": DECAY},
    "sigma of a group": {"optimizer": own_sigma, "scheduler": DECAY},
    "action noise": {"action_noise": "gaussian:0.3"},
    "rules of episodes": {
        "rules": EpisodeRules("adaptive:3,0.2,1.5", reward_shift=0.1, seeds="independent", per_member=2)
    },
    "actions alone": {"action_noise": "gaussian:0.3", "sigma": 0.0},
    "no normalisation": {"normalize_observations": False},
    "a budget of steps": {"min_timesteps": 55},
    "noise of low rank": {"rank": 1},
    "noise of low rank, ars": {"strategy": "ars", "optimizer": SGD, "rank": 2},
    **{name: {"strategy": name, "optimizer": SGD} for name in STRATEGIES},
}


@pytest.mark.parametrize("case", CASES)
def test_F29_resumed_is_straight(case, tmp_path):
    straight = make(**CASES[case]).learn(10**9, callback=until(6), folder=tmp_path / "straight")
    make(**CASES[case]).learn(10**9, callback=until(3), folder=tmp_path / "halves")
    resumed = make(**CASES[case]).learn(10**9, callback=until(6), folder=tmp_path / "halves", resume=True)
    assert bits(resumed) == bits(straight)
    assert rows(tmp_path / "halves") == rows(tmp_path / "straight")
    assert len(rows(tmp_path / "halves")) == 6


class Normed(nn.Module):
    """Virtual batch norm and a state that lives through the episode."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.cell, self.last = (
            nn.Linear(3, 8),
            nn.BatchNorm1d(8),
            nn.GRUCell(8, 4),
            nn.Linear(4, 1),
        )

    def initial_state(self, batch_size):
        return torch.zeros(batch_size, 4)

    def forward(self, x, state):
        state = self.cell(torch.tanh(self.norm(self.first(x))), state)
        return self.last(state), state


def normed(**options):
    from torch_es.nn import convert_batch_norm

    torch.manual_seed(3)
    return ES(convert_batch_norm(Normed()), Faulty, num_workers=0, num_pairs=3, sigma=0.1, num_lanes=2, **options)


@pytest.mark.parametrize("noise", [None, "gaussian:0.2"])
def test_F29_with_virtual_batch_norm_and_a_recurrent_policy(noise, tmp_path):
    straight = normed(action_noise=noise).learn(10**9, callback=until(4), folder=tmp_path / "straight")
    normed(action_noise=noise).learn(10**9, callback=until(2), folder=tmp_path / "halves")
    resumed = normed(action_noise=noise).learn(10**9, callback=until(4), folder=tmp_path / "halves", resume=True)
    assert bits(resumed) == bits(straight)
    assert rows(tmp_path / "halves") == rows(tmp_path / "straight")
    assert torch.equal(resumed.policy.reference, straight.policy.reference)


@pytest.mark.parametrize("workers", [(2, 0), pytest.param((1, 4, 2, 0), marks=pytest.mark.slow)])
def test_F30_another_number_of_workers_gives_the_same_bits(workers, tmp_path, tried):
    for generations, num_workers in enumerate(workers, start=1):
        with make(num_workers=num_workers) as es:
            es.learn(10**9, callback=until(generations), folder=tmp_path / "r", resume=True)
        tried()
    assert bits(es) == golden(len(workers))


def saved_run(folder, generations=4):
    make().learn(10**9, callback=until(generations), folder=folder, checkpoint_every=1e-9)
    return folder


DAMAGES = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "half": lambda content: content[: len(content) // 2],
    "nearly all": lambda content: content[: len(content) * 99 // 100],
    "a bit": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
    "gone": None,
}


def damage(folder, name, kind):
    path = folder / name
    if DAMAGES[kind] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGES[kind](path.read_bytes()))


def test_F31_F32_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path, caplog, tried):
    original = saved_run(tmp_path / "original")
    for name in ("MANIFEST.json", "state.json", "tensors.safetensors"):
        for kind in DAMAGES:
            folder = tmp_path / f"{name}-{kind}"
            shutil.copytree(original, folder)
            damage(folder / "checkpoints" / "generation-000004", name, kind)
            caplog.clear()
            resumed = make().learn(10**9, callback=until(5), folder=folder, resume=True)
            assert bits(resumed) == golden(5), (name, kind)
            assert str(folder / "checkpoints" / "generation-000004") in caplog.text
            assert name in caplog.text or kind != "gone"
            assert len(rows(folder)) == 5
            tried()


def test_F31_when_none_is_whole_there_is_an_error(tmp_path):
    folder = saved_run(tmp_path / "r", 2)
    for path in (folder / "checkpoints").iterdir():
        damage(path, "state.json", "half")
    with pytest.raises(ValueError, match=r"No checkpoint in .* is whole.*state\.json` is damaged"):
        make().learn(10**9, callback=until(3), folder=folder, resume=True)


def test_a_damaged_checkpoint_goes_when_a_whole_one_is_written_and_not_before(tmp_path):
    path = saved_run(tmp_path / "r")
    newest = path / "checkpoints" / "generation-000004"
    damage(newest, "tensors.safetensors", "half")
    with RunFolder(path, keep=1) as folder:
        assert len(list(folder.checkpoints.iterdir())) == 3  # any of them may be needed
        make().learn(10**9, callback=until(5), folder=folder, resume=True, checkpoint_every=1e9)
    assert [p.name for p in newest.parent.iterdir()] == ["generation-000005"]

    with RunFolder(path, keep=2) as folder:
        shutil.copytree(newest.with_name("generation-000005"), newest.with_name("generation-000009"))
        damage(newest.with_name("generation-000009"), "state.json", "half")
        assert bits(make().learn(10**9, callback=until(6), folder=folder, resume=True)) == golden(6)
    assert {p.name for p in newest.parent.iterdir()} == {"generation-000005", "generation-000006"}


def test_logs_whose_checkpoints_were_deleted_are_kept(tmp_path, caplog):
    path = saved_run(tmp_path / "r")
    logs = {name: (path / f"{name}").read_bytes() for name in ("metrics.jsonl", "replay.log")}
    shutil.rmtree(path / "checkpoints")
    assert bits(make().learn(10**9, callback=until(2), folder=path, resume=True)) == golden(2)
    names = "metrics.earlier.jsonl and replay.earlier.log"
    assert f"has no checkpoint: its logs are kept as {names}, and the run begins anew" in caplog.text
    assert len(rows(path)) == 2
    shutil.rmtree(path / "checkpoints")
    make().learn(10**9, callback=until(1), folder=path, resume=True)
    assert "its logs are kept as metrics.earlier-2.jsonl and replay.earlier-2.log, and" in caplog.text
    for name, content in logs.items():
        stem, end = name.split(".")
        assert (path / f"{stem}.earlier.{end}").read_bytes() == content


def test_F32_what_a_killed_process_left_is_skipped_and_removed(tmp_path):
    folder = saved_run(tmp_path / "r")
    stale = folder / "checkpoints" / ".generation-000005.tmp123"
    shutil.copytree(folder / "checkpoints" / "generation-000004", stale)
    assert bits(make().learn(10**9, callback=until(5), folder=folder, resume=True)) == golden(5)
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["generation-000003", "generation-000004", "generation-000005"]


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["MANIFEST.json", "state.json", "tensors.safetensors"])
def test_F33_code_in_a_checkpoint_never_runs(name, tmp_path):
    folder = saved_run(tmp_path / "r", 1) / "checkpoints" / "generation-000001"
    rewrite(folder, name, pickle.dumps(Bomb(tmp_path / "sentinel")))
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        ES.load(folder, mlp(3, 1, (8,)), Faulty)
    assert not (tmp_path / "sentinel").exists()


def rewrite(folder, name, content):
    """Change a file and have the manifest agree with it."""
    (folder / name).write_bytes(content)
    if name != "MANIFEST.json":
        manifest = json.loads((folder / "MANIFEST.json").read_text())
        manifest[name] = {"bytes": len(content), "sha256": checkpoint.hashlib.sha256(content).hexdigest()}
        (folder / "MANIFEST.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": {"torch.optim": "load", "keywords": {"f": "x"}}}, "is not an optimiser of torch.optim"),
        ({"env": "evil:Env-v0"}, "would import a module; pass `env` yourself"),
        ({"optimizer": {"_target_": "os.system", "command": "touch sentinel"}}, "is not an optimiser of torch.optim"),
    ],
)
def test_F33_nor_does_code_in_its_options(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('sentinel', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    make().save("c")
    document = json.loads(Path("c/state.json").read_text())
    document["state"]["options"].update(options)
    rewrite(Path("c"), "state.json", json.dumps(document).encode())
    with pytest.raises(ValueError, match=message):
        ES.load("c", mlp(3, 1, (8,)))
    assert not Path("sentinel").exists()


@pytest.mark.slow
def test_F33_targets_in_a_runs_config_are_data(tmp_path):
    code, _, error = torch_es(*CONFIG, "total_timesteps=40", "run_dir=r", cwd=tmp_path)
    assert code == 0, error
    path = tmp_path / "r" / "config.yaml"
    path.write_text(path.read_text() + "_target_: os.system\n_args_: ['touch sentinel']\n")
    code, out, error = torch_es("evaluate", "r", "--import", "harness", "--episodes", "1", cwd=tmp_path)
    assert code == 0, error
    assert not (tmp_path / "sentinel").exists()
    logged = rows(tmp_path / "r")
    # F38: a fresh process plays the centre of the newest checkpoint, and the best one, whose return was logged
    assert "over 1 episodes" in out
    member = ["--generation", "0", "--episode", "0"]
    code, out, error = torch_es("replay", "r", "--import", "harness", *member, cwd=tmp_path)
    assert code == 0, error
    assert logged[0]["eval/mean_reward"] < 0


def test_F34_a_run_of_other_settings_is_not_continued(tmp_path, tried):
    folder = saved_run(tmp_path / "r", 1)
    others = {
        "sigma": ({"sigma": 0.5}, r"`sigma` was 0.1, is 0.5"),
        "population": ({"num_pairs": 8, "seed": 4}, r"`num_pairs` was 4, is 8; `seed` was 0, is 4"),
        "strategy": (
            {"strategy": "pgpe", "rules": EpisodeRules(3)},
            r"`rules` was .*; `strategy` was openai_es, is pgpe",
        ),
        "optimiser": ({"optimizer": SGD}, r"`optimizer` was .*Adam.*, is .*SGD"),
    }
    for options, message in others.values():
        with pytest.raises(ValueError, match=message):
            make(**options).learn(100, folder=folder, resume=True)
        tried()
    other = ES(mlp(3, 1, (4, 4), seed=0), Faulty, num_pairs=4, sigma=0.1, optimizer=ADAM, num_workers=0)
    with pytest.raises(ValueError, match=r"`1.bias` was \[8\], is \[4\]; .*`5.bias` was absent, is \[1\]"):
        other.learn(100, folder=folder, resume=True)
    make(num_lanes=2, eval_every=1).learn(10**9, callback=until(2), folder=folder, resume=True)


@pytest.mark.slow
def test_F34_the_command_lists_what_differs(tmp_path):
    plain = ["env=cartpole", *CONFIG[1:]]
    assert torch_es(*plain, "total_timesteps=40", "run_dir=r", cwd=tmp_path)[0] == 0
    code, _, error = torch_es("train", "resume=r", "strategy.sigma=0.5", "env.id=Acrobot-v1", cwd=tmp_path)
    assert code == 2
    assert "`env.id` was CartPole-v1, is Acrobot-v1; `strategy.sigma` was 0.1, is 0.5" in error
    assert "A resumed run may change total_timesteps" in error
    code, _, error = torch_es(*plain, "total_timesteps=80", "seed=3", "run_dir=r", "resume=auto", cwd=tmp_path)
    assert code == 2
    assert "`seed` was 0, is 3" in error
    allowed = ["total_timesteps=80", "evaluator.num_workers=1", "eval_every=1", "logger=tensorboard"]
    code, _, error = torch_es("train", "resume=r", *allowed, cwd=tmp_path)
    assert code == 0, error


class Odd(nn.Module):
    """Tied, non-contiguous, 0-dim, frozen, and buffers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.conv = nn.Conv2d(3, 3, 2, padding=1).to(memory_format=torch.channels_last)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.last = nn.Linear(3, 1).requires_grad_(False)
        self.register_buffer("shift", torch.arange(3.0))

    def forward(self, x):
        x = self.second(torch.tanh(self.first(x))) * self.scale + self.shift
        return self.last(self.conv(x[:, :, None, None])[:, :, 0, 0])


def test_F37_tied_frozen_strided_and_scalar_parameters_come_back(tmp_path):
    def build():
        return ES(Odd(), Faulty, num_workers=0, num_pairs=2, sigma=0.1, num_lanes=2)

    es = build().learn(10**9, callback=until(2))
    assert FlatParameters(es.network).dim == 9 + 3 + 3 + 36 + 3 + 1
    es.network.shift += 1
    es.save(tmp_path / "c")
    loaded = ES.load(tmp_path / "c", Odd(), Faulty, num_workers=0)
    assert bits(loaded) == bits(es)
    assert loaded.network.second.weight is loaded.network.first.weight
    assert loaded.network.conv.weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.randn(4, 3)
    assert torch.equal(loaded.network(x), es.network(x))


def test_F38_a_fresh_trainer_plays_what_was_logged(tmp_path):
    seen = []
    make(num_workers=0).learn(10**9, callback=lambda m: seen.append(m) or len(seen) < 5, folder=tmp_path / "r")
    loaded = make().learn(1, folder=tmp_path / "r", resume=True)
    assert loaded.strategy.generation == 5
    best = max((row["eval/mean_reward"], row["time/iterations"] - 1) for row in seen if "eval/mean_reward" in row)
    assert (loaded.trainer.best["mean_reward"], loaded.trainer.best["generation"]) == best
    loaded.trainer.restore_best()
    loaded.strategy.generation = int(best[1])  # so that its episodes have the seeds of that evaluation
    assert np.mean([episode.return_ for episode in loaded.evaluate(4)]) == best[0]


def test_the_newest_checkpoints_are_kept(tmp_path):
    saved_run(tmp_path / "r", 6)
    assert sorted(p.name[-1] for p in (tmp_path / "r" / "checkpoints").iterdir()) == ["4", "5", "6"]
    assert train(num_workers=0).trainer.best is not None


def test_other_arithmetic_is_told_of(tmp_path, caplog):
    es = make()
    state = {**es.state_dict(), "machine": {"processor": "abacus", "arithmetic": "0", "versions": {}}}
    checkpoint.save(tmp_path / "c", state)
    es.restore(checkpoint.load(tmp_path / "c"))
    es.evaluate(1)
    assert not caplog.text  # nothing is trained
    es.learn(1)
    es.learn(1)
    (told,) = (record.getMessage() for record in caplog.records if "the bits may differ" in record.getMessage())
    assert "arithmetic of abacus" in told
