"""The real wandb, offline: what it was sent is read back from its own files."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from helpers import wandb_history, wandb_records, wandb_sent
from matplotlib.image import imsave

from torch_es.cli import config, main
from torch_es.loggers import WandbLogger
from torch_es.runs import checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")
SWEEP = config.conf_dir().parent / "examples" / "wandb_sweep.yaml"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))


def sent(folder):
    """All records and the rows of a finished run."""
    (path,) = wandb_sent(folder)
    return list(wandb_records(path)), wandb_history(path)


def finished_run(folder):
    imsave(folder / "curve.png", np.zeros((8, 8, 3)))
    (folder / "video.mp4").write_bytes(b"not looked into")
    (folder / "config.yaml").write_text("seed: 1\n")
    for generation in (1, 2):
        checkpoint.save(folder / "checkpoints" / f"generation-{generation:06d}", {"generation": generation})


def log(folder, code=0, **options):
    logger = WandbLogger(mode="offline", **options)
    logger.start({"seed": 1}, folder)
    for step in (10.0, 20.0):
        logger.log({"global_step": step, "time/fps": 5.0})
    finished_run(folder)
    logger.close(code)


def test_a_run_ends_with_its_pictures_and_its_newest_checkpoint(tmp_path):
    log(tmp_path)
    records, rows = sent(tmp_path)
    assert rows[:2] == [{"global_step": s, "time/fps": 5, "charts/SPS": 5} for s in (10, 20)]
    assert rows[2]["global_step"] == 20
    assert (rows[2]["curve._type"], rows[2]["video._type"]) == ("image-file", "video-file")
    (artifact,) = (record.artifact for record in records if record.HasField("artifact"))
    assert (artifact.type, set(artifact.aliases)) == ("model", {"latest", "best"})
    inside = {entry.path for entry in artifact.manifest.contents}
    assert {"config.yaml", "checkpoints/generation-000002/MANIFEST.json"} <= inside
    assert not any("000001" in path for path in inside)
    axes = {r.metric.name or r.metric.glob_name: r.metric.step_metric for r in records if r.HasField("metric")}
    assert axes["*"] == "global_step"


def test_the_artifact_is_a_runs_folder(tmp_path, monkeypatch):
    small = ["env=cartpole", "strategy.num_pairs=2", "evaluator.num_workers=0", "policy.hidden=[4]"]
    settings = config.compose_config(small)
    with config.build(settings) as es:
        es.learn(100, folder=tmp_path / "r")
    config.save_config(settings, tmp_path / "r")
    logger = WandbLogger(mode="offline")
    logger.start({}, tmp_path / "r")
    logger.close()
    (artifact,) = (record.artifact for record in sent(tmp_path / "r")[0] if record.HasField("artifact"))
    for entry in artifact.manifest.contents:
        path = tmp_path / "downloaded" / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(entry.local_path, path)
    assert main(["evaluate", str(tmp_path / "downloaded"), "--best", "--episodes", "1"]) == 0


def test_a_run_that_failed_is_finished_without_them(tmp_path):
    log(tmp_path, code=1)
    records, rows = sent(tmp_path)
    assert len(rows) == 2
    assert not any(record.HasField("artifact") for record in records)
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [1]


def test_pictures_that_cannot_be_sent_leave_no_run_open(tmp_path):
    logger = WandbLogger(mode="offline")
    logger.start({}, tmp_path)
    (tmp_path / "curve.png").write_bytes(b"no picture")
    with pytest.raises(OSError, match="cannot identify image"):
        logger.close()
    assert any(record.HasField("exit") for record in sent(tmp_path)[0])


def test_the_environment_wins(tmp_path, monkeypatch):
    import wandb

    wandb.teardown()  # it reads its variables once
    for name, value in {"PROJECT": "theirs", "RUN_ID": "abc", "NAME": "called", "RUN_GROUP": "g"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    log(tmp_path, project="ours", group="h")
    run = next(record.run for record in sent(tmp_path)[0] if record.HasField("run"))
    assert (run.project, run.run_id, run.display_name, run.run_group) == ("theirs", "abc", "called", "g")


def agents_words():
    """What W&B's agent would run for `examples/wandb_sweep.yaml`, by the agent's own code."""
    from wandb.wandb_agent import Agent

    sweep = yaml.safe_load(SWEEP.read_text())
    values = {key: {"value": p.get("values", [p.get("min")])[0]} for key, p in sweep["parameters"].items()}
    ran = []
    agent = SimpleNamespace(
        _in_jupyter=False, _sweep_command=sweep["command"], _function=None, _run_processes={}, _forward_signals=False
    )
    monkey = pytest.MonkeyPatch()
    monkey.setattr("wandb.wandb_agent.AgentProcess", lambda command, **_: ran.append(command) or SimpleNamespace())
    with monkey.context() as patch:
        patch.setenv("WANDB_SWEEP_ID", "s")
        Agent._command_run(agent, {"args": values, "run_id": "r", "program": sweep.get("program")})
    monkey.undo()
    return sweep, ran[0]


def test_what_the_agent_of_a_sweep_runs_is_our_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_RUN_ID", "")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "")
    sweep, words = agents_words()
    assert words[:2] == ["/usr/bin/env", "torch-es"]
    settings = config.compose_config(words[2:])
    assert settings["logger"]["name"] == "wandb"
    assert settings["optimizer"]["lr"] == sweep["parameters"]["optimizer.lr"]["min"]
    assert sweep["metric"] == {"name": "eval/mean_reward", "goal": "maximize"}


def test_replay_builds_one_run_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "r"
    folder.mkdir()
    config.save_config(config.compose_config(["logger=wandb", "logger.naming=sb3"]), folder)
    lines = [f'{{"global_step": {i}, "time/iterations": {i}, "time/fps": 5}}\n' for i in range(1, 30)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    (folder / ".wandb-id").write_text("kept")
    (folder / "summary.json").write_text('{"generation": 29, "eval/mean_reward": 67.0}')
    assert main(["wandb-replay", "r", "--mode", "offline", "--project", "p"]) == 0
    records, rows = sent(folder)
    assert [row["global_step"] for row in rows] == [*range(1, 30), 29]
    assert "charts/SPS" not in rows[0]
    assert rows[-1]["eval/mean_reward"] == 67.0
    run = next(record.run for record in records if record.HasField("run"))
    assert run.project == "p"
    assert run.run_id != "kept"
    assert "29 generations" in capsys.readouterr().out


def test_without_a_key_the_way_out_is_told(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"No API key configured.* WANDB_MODE=offline keeps the run here\."):
        WandbLogger(mode="online").start({}, tmp_path)


def test_replay_of_no_run_is_refused(tmp_path, capsys):
    assert main(["wandb-replay", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_moved_run_keeps_its_id_and_a_copied_one_gets_its_own(tmp_path):
    first, moved, copied = tmp_path / "first", tmp_path / "moved", tmp_path / "copied"
    first.mkdir()
    run_id = logged(first)
    (first / "metrics.jsonl").touch()
    assert logged(first) == run_id
    first.rename(moved)
    assert logged(moved) == run_id
    first.mkdir()
    assert logged(first) != run_id  # a new run where the old one was
    (first / "metrics.jsonl").touch()
    assert logged(moved) == run_id
    shutil.copytree(first, copied)
    own = logged(copied)
    assert own not in (run_id, logged(first))
    assert logged(copied) == own
    shutil.copytree(moved, tmp_path / "again")
    assert logged(tmp_path / "again") != run_id


def test_runs_without_a_folder_are_runs_of_their_own(tmp_path):
    assert len({logged(tmp_path) for _ in range(3)}) == 3


def logged(folder):
    """The id under which W&B knows the run in `folder`."""
    logger = WandbLogger(mode="disabled")
    logger.start({}, folder)
    logger.close()
    return (folder / ".wandb-id").read_text().split("\n")[0]
