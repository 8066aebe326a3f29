"""Any generation again from the log, to the bit; and a log that is damaged, torn or of another machine."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from harness import ADAM, CONFIG, Faulty, bits, golden, make, rows, theta_of, torch_es, train, until
from test_fault_resume import CASES, normed

from torch_es.errors import RunFolderError
from torch_es.runs import checkpoint, replay_log


@pytest.mark.parametrize("case", CASES)
def test_a_replay_is_the_checkpoint_bit_for_bit(case, tmp_path, tried):
    run = make(**CASES[case]).learn(10**9, callback=until(5), folder=tmp_path / "r", checkpoint_every=1e-9)
    for generation in (5, 4, 3):
        other = make(**CASES[case])
        other.replay(tmp_path / "r" / "replay.log", generation)
        loaded = make(**CASES[case])
        loaded.restore(checkpoint.load(tmp_path / "r" / "checkpoints" / f"generation-{generation:06d}"))
        for each in (other, loaded):
            each.trainer.best = None  # a replay plays no evaluation
        assert bits(other) == bits(loaded)
        tried()
    assert run.strategy.generation == 5


@pytest.mark.parametrize(
    "build", [make, partial(make, action_noise="gaussian:0.2"), normed], ids=["mlp", "noise", "vbn"]
)
def test_every_member_plays_as_it_did(build, tmp_path, tried):
    build().learn(10**9, callback=until(3), folder=tmp_path / "r")
    _, records = replay_log.read(tmp_path / "r" / "replay.log")
    record = list(records)[2]
    es = build()
    assert es.replay(tmp_path / "r" / "replay.log", 2).fitness.tolist() == record.fitness.tolist()
    for member, fitness in enumerate(record.fitness.ravel()):
        played = es.play(member)
        assert (played.return_, played.length) == (fitness, record.lengths.ravel()[member])
        tried()


def test_a_run_that_lost_a_pair_and_was_resumed_is_replayed_too(tmp_path):
    from test_fault_numerics import PAIR_2, Rewarding

    factory = partial(Rewarding, np.nan, PAIR_2)
    make(factory).learn(10**9, callback=until(2), folder=tmp_path / "r")
    run = make(factory).learn(10**9, callback=until(4), folder=tmp_path / "r", resume=True)
    other = make(factory)
    other.replay(tmp_path / "r" / "replay.log", 4)
    assert torch.equal(other.strategy.theta, run.strategy.theta)


def test_a_log_costs_bytes_an_evaluation_not_parameters(tmp_path):
    sizes = []
    for hidden in ((8,), (64, 64)):
        from torch_es import ES, mlp

        folder = tmp_path / str(len(hidden))
        es = ES(mlp(3, 1, hidden, seed=0), Faulty, num_workers=0, num_pairs=32, optimizer=ADAM)
        es.learn(10**9, callback=until(2), folder=folder)
        two = (folder / "replay.log").stat().st_size
        es.learn(10**9, callback=until(4), folder=folder, resume=True)
        sizes.append(((folder / "replay.log").stat().st_size - two) / (2 * 64))
    assert abs(sizes[0] - sizes[1]) < 0.1
    assert sizes[0] < 12 + 11  # a return and a length, and the generation's statistics and counters shared by 64


def test_a_resume_forgets_the_frames_that_come_again(tmp_path):
    make().learn(10**9, callback=until(5), folder=tmp_path / "r", checkpoint_every=1e-9)
    for name in ("4", "5"):
        shutil.rmtree(tmp_path / "r" / "checkpoints" / f"generation-00000{name}")
    make().learn(10**9, callback=until(6), folder=tmp_path / "r", resume=True)
    _, records = replay_log.read(tmp_path / "r" / "replay.log")
    assert [record.generation for record in records] == [0, 1, 2, 3, 4, 5]
    other = make()
    other.replay(tmp_path / "r" / "replay.log", 6)
    other.trainer.best = None
    straight = train(num_workers=0, generations=6)
    straight.trainer.best = None
    assert bits(other) == bits(straight)


ends = []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of four generations; `ends` says where the frame of each ends."""
    path = tmp_path_factory.mktemp("logged") / "r"
    ends.clear()

    def callback(metrics):
        ends.append((path / "replay.log").stat().st_size)
        return len(ends) < 4

    make().learn(10**9, callback=callback, folder=path)
    return path


def test_a_damaged_frame_is_named_and_those_before_it_are_replayed(folder, tmp_path):
    path = tmp_path / "replay.log"
    content = bytearray((folder / "replay.log").read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    es = make()
    es.replay(path, 3)
    assert torch.equal(es.strategy.theta, train(num_workers=0, generations=3).strategy.theta)
    with pytest.raises(RunFolderError, match=r"is damaged at byte \d+: frame 4 has another digest"):
        make().replay(path, 4)


def test_a_frame_that_was_taken_out_is_found(folder, tmp_path):
    path = tmp_path / "replay.log"
    content = (folder / "replay.log").read_bytes()
    path.write_bytes(content[: ends[0]] + content[ends[1] :])
    with pytest.raises(RunFolderError, match="frame 2 has another digest"):
        make().replay(path, 3)


def test_a_resume_whose_log_is_damaged_keeps_it_aside_and_goes_on(folder, tmp_path, caplog):
    shutil.copytree(folder, tmp_path / "r")
    content = bytearray((tmp_path / "r" / "replay.log").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "r" / "replay.log").write_bytes(content)
    es = make().learn(10**9, callback=until(6), folder=tmp_path / "r", resume=True)
    assert bits(es) == golden(6)
    assert "It is kept as replay.earlier.log; a new one begins at generation 4" in caplog.text
    other = make()
    with pytest.raises(ValueError, match="must be at least 4, where"):
        other.replay(tmp_path / "r" / "replay.log", 2)


def test_a_trainer_that_has_gone_on_cannot_replay(folder):
    es = make()
    es.replay(folder / "replay.log", 2)
    with pytest.raises(ValueError, match=r"trainer must be at generation 0, where .* begins, got 2; make a new one"):
        es.replay(folder / "replay.log", 1)


def test_another_start_and_other_bits_are_told_of(folder, monkeypatch):
    other = make()
    other.strategy.move(other.strategy.theta + 1)
    with pytest.raises(RunFolderError, match="began with other weights"):
        other.replay(folder / "replay.log", 2)
    with pytest.raises(
        RunFolderError, match=r"Generation 0 gives theta other bits .*: another module, device, strategy"
    ):
        make(optimizer=partial(torch.optim.SGD, lr=0.1)).replay(folder / "replay.log", 2)
    monkeypatch.setattr("torch_es.runs.machine.processor", lambda: "abacus")
    monkeypatch.setattr("torch_es.runs.machine.arithmetic", lambda: "0")
    with pytest.raises(RunFolderError, match=r"other bits than the run had: arithmetic of .*, here abacus"):
        make(optimizer=partial(torch.optim.SGD, lr=0.1)).replay(folder / "replay.log", 2)
    with pytest.raises(ValueError, match="`generation` must be at most 4, got 9"):
        make().replay(folder / "replay.log", 9)


@pytest.mark.slow
def test_the_command_rebuilds_plays_and_records(tmp_path):
    arguments = ["env=cartpole", *CONFIG[1:], "total_timesteps=600", "run_dir=r"]
    assert torch_es(*arguments, cwd=tmp_path)[0] == 0
    count = len(rows(tmp_path / "r"))
    newest = theta_of(tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / "checkpoints")
    code, out, error = torch_es("replay", "r", "--generation", str(count), "--out", "again", cwd=tmp_path)
    assert code == 0, error
    assert f"generation {count}: theta {newest}, as in the run" in out
    assert replay_log.digest(checkpoint.load(tmp_path / "again")["strategy"]["theta"]).hex() == newest
    member = ["replay", "r", "--generation", "1", "--member", "5", "--record"]
    code, out, error = torch_es(*member, cwd=tmp_path)
    assert code == 0, error
    assert "as in the run, bit for bit" in out
    assert (tmp_path / "r" / "generation-1-member-5.mp4").stat().st_size > 1000
