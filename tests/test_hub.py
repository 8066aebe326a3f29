"""A shared policy: what is written, that it comes back the same, and that nothing of it is ever executed."""

import json
import os
import pickle
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from huggingface_hub import ModelCard, hub_mixin
from sample_spaces import ACTIONS, BOX3, OBSERVATIONS
from torch import nn

from torch_es.hub import HubPolicy
from torch_es.nn.moments import Moments
from torch_es.spaces.plain import plain_space

TWO = Discrete(2)
PICTURES = Box(0, 255, (4, 44, 44), np.uint8)
RESULTS = {"mean_return": 12.5, "std_return": 1.25, "episodes": 4, "total_timesteps": 1000}


def made(network=None, observations=BOX3, actions=TWO, **options):
    """A policy as after training: weights and statistics of its own."""
    policy = HubPolicy(network or {"name": "mlp", "hidden": [8]}, observations, actions, **options)
    if policy.observation_norm is not None:
        policy.observation_norm.update(Moments.of(np.random.default_rng(0).normal(2, 3, (50, policy.layout.size))))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.normal_()
    return policy


def assert_same(one, other):
    assert {n: v.numpy().tobytes() for n, v in one.state_dict().items()} == {
        n: v.numpy().tobytes() for n, v in other.state_dict().items()
    }
    one.layout.space.seed(0)
    for _ in range(5):
        observation = one.layout.space.sample()
        assert str(one.act(observation)) == str(other.act(observation))


POLICIES = {
    "mlp": {"env": {"id": "Toy-v0"}, "results": RESULTS},
    "no normalisation": {"network": {"name": "mlp", "hidden": [8], "normalize_observations": False}},
    "dict": {"observations": OBSERVATIONS["dict"], "actions": ACTIONS["dict"][0], "box_head": "uniform:3"},
    "gaussian": {"actions": Box(-1, 1, (2,)), "box_head": "gaussian", "action_noise": "sample"},
    "lstm": {"network": {"name": "recurrent", "kind": "lstm", "hidden": 5}},
    "atari": {
        "network": {"name": "atari_cnn"}, "observations": PICTURES,
        "reference": torch.from_numpy(np.stack([PICTURES.sample().ravel() for _ in range(8)])),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", POLICIES)
def test_a_saved_policy_comes_back_the_same(kind, tmp_path):
    policy = made(**POLICIES[kind])
    policy.save_pretrained(tmp_path / "p")
    loaded = HubPolicy.from_pretrained(tmp_path / "p")
    assert_same(policy, loaded)
    assert (loaded.env, loaded.results) == (policy.env, policy.results)
    assert not loaded.training
    loaded.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "p" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def own_module():
    tied = nn.Linear(3, 3)
    return nn.Sequential(tied, nn.Tanh(), tied, nn.Linear(3, 2))


def test_a_module_of_ones_own_is_given_again(tmp_path):
    policy = made(own_module())
    policy.save_pretrained(tmp_path)
    assert "network" not in json.loads((tmp_path / "config.json").read_text())
    assert_same(policy, HubPolicy.from_pretrained(tmp_path, network=own_module()))
    with pytest.raises(ValueError, match="describes no network; pass `network` yourself"):
        HubPolicy.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"(?s)the weights are of another network: .*network.0.weight"):
        HubPolicy.from_pretrained(tmp_path, network=nn.Linear(3, 2))


def test_the_card_tells_results_and_use(tmp_path):
    policy = made(env={"id": "Toy-v0"}, results=RESULTS)
    policy.video = tmp_path / "video.mp4"
    policy.video.write_bytes(b"film")
    policy.save_pretrained(tmp_path / "p", model_card_kwargs={"repo_id": "me/toy"})
    card = ModelCard.load(tmp_path / "p" / "README.md")
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("mean_reward", "12.50 +/- 1.25")
    assert (result.task_type, result.dataset_type) == ("reinforcement-learning", "Toy-v0")
    assert card.data.library_name == "torch-evolution"
    assert {"reinforcement-learning", "evolution-strategies", "Toy-v0"} <= set(card.data.tags)
    assert 'HubPolicy.from_pretrained("me/toy")' in card.text
    assert "over 4 noise-free episodes" in card.text
    assert json.loads((tmp_path / "p" / "results.json").read_text())["mean_return"] == 12.5
    assert (tmp_path / "p" / "replay.mp4").read_bytes() == b"film"
    assert "eval_results" not in made().generate_model_card().content


def test_the_card_tells_what_there_is(tmp_path):
    made(results={"mean_return": 3.0}).save_pretrained(tmp_path / "one")
    assert "Mean return **3.00**." in (tmp_path / "one" / "README.md").read_text()
    made(results={"mean_return": 3.0, "episodes": 7}).save_pretrained(tmp_path / "two")
    assert "Mean return **3.00** over 7 noise-free" in (tmp_path / "two" / "README.md").read_text()
    made(nn.Linear(3, 2)).save_pretrained(tmp_path / "own")
    card = (tmp_path / "own" / "README.md").read_text()
    assert 'HubPolicy.from_pretrained("USER/REPOSITORY", network=network)' in card
    assert "everything else that is needed to act" not in card
    assert "everything else that is needed to act" in (tmp_path / "one" / "README.md").read_text()


class Half(nn.Module):
    def __init__(self, space):
        super().__init__()
        self.size = space.shape[0]

    def forward(self, outputs):
        return outputs * 0 + 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box_head": Half}, "`box_head` must be a name, as 'tanh', to be shared as data, got a type; put what"),
        ({"action_noise": lambda outputs, drawn: outputs}, "`action_noise` must be a name, .* got a function"),
        ({"results": {"mean_return": np.float32(1)}}, "`results` must be plain data, .* float32 is not JSON"),
        ({"env": {"id": "Toy-v0", "make": Half}}, "`env` must be plain data"),
    ],
    ids=["head", "noise", "results", "env"],
)
def test_what_a_file_cannot_hold_is_refused_before_it_is_lost(options, message):
    with pytest.raises(TypeError, match=message):
        made(actions=Box(-1, 1, (2,)), **options)


def test_what_is_uploaded_is_what_is_saved(tmp_path, monkeypatch):
    """The hub cannot be reached here: its side alone is made up."""
    uploads = []

    class Hub:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private, exist_ok):
            uploads.append((repo_id, private))
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id, folder_path, **_):
            shutil.copytree(folder_path, tmp_path / "hub" / repo_id)
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(hub_mixin, "HfApi", Hub)
    policy = made(env={"id": "Toy-v0"}, results=RESULTS)
    assert policy.push_to_hub("me/toy", private=True) == "https://hub/me/toy"
    assert uploads == [("me/toy", True)]
    folder = tmp_path / "hub" / "me" / "toy"
    assert {p.name for p in folder.iterdir()} == {"README.md", "config.json", "model.safetensors", "results.json"}
    assert_same(policy, HubPolicy.from_pretrained(folder))
    assert 'from_pretrained("me/toy")' in (folder / "README.md").read_text()


class Mine(HubPolicy):
    """A subclass, as users of the mixin write them."""


class Noted(HubPolicy, tags=["noted"]):
    def __init__(self, *, note="", **options):
        super().__init__(**options)
        self.note = note


def test_subclasses_are_saved_and_loaded_as_their_parent(tmp_path):
    policy = Mine({"name": "mlp", "hidden": [8]}, BOX3, TWO)
    policy.save_pretrained(tmp_path / "mine")
    loaded = Mine.from_pretrained(tmp_path / "mine")
    assert type(loaded) is Mine
    assert_same(policy, loaded)
    options = {"network": {"name": "mlp"}, "observation_space": BOX3, "action_space": TWO}
    Noted(note="hello", **options).save_pretrained(tmp_path / "noted")
    assert Noted.from_pretrained(tmp_path / "noted").note == "hello"


def test_the_mixins_own_arguments_are_taken(tmp_path):
    policy = made()
    policy.save_pretrained(tmp_path)
    assert_same(policy, HubPolicy.from_pretrained(tmp_path, map_location="cpu", strict=True))
    assert next(HubPolicy.from_pretrained(tmp_path, map_location="meta").parameters()).device.type == "meta"
    wider = {"name": "mlp", "hidden": [8, 8]}
    with pytest.raises(ValueError, match="the weights are of another network"):
        HubPolicy.from_pretrained(tmp_path, network=wider)
    with pytest.raises(ValueError, match=r"(?s)the weights are of another network: .*size mismatch"):
        HubPolicy.from_pretrained(tmp_path, network=wider, strict=False)  # names may be missing, sizes may not differ


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def _weights(folder, payload):
    (folder / "model.safetensors").write_bytes(payload)


def _pickle_only(folder, payload):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(payload)


def _config(**changes):
    def change(folder, payload):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


CALL = {"_target_": "os.system", "_args_": ["touch SENTINEL"]}
MALICIOUS = {
    "pickle as weights": (_weights, "model.safetensors is no safetensors file"),
    "pickle alone": (_pickle_only, "holds no model.safetensors; no other format is read"),
    "target at the top": (_config(**CALL), "holds _args_, _target_, which is none of a policy's"),
    "target as network": (_config(network=CALL), "unexpected keyword argument '_target_'"),
    "target as space": (_config(action_space=CALL), "`kind` must be one of Box"),
    "a space with more": (_config(action_space={**plain_space(TWO), **CALL}), "describes no Discrete"),
    "another network": (_config(network={"name": "os.system"}), "`name` must be one of atari_cnn, mlp"),
    "a dtype that is none": (_config(observation_space={**plain_space(BOX3), "dtype": "O"}), "`dtype` must be one of"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALICIOUS)
def test_F33_nothing_is_executed_on_load(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spoil, message = MALICIOUS[kind]
    made().save_pretrained(tmp_path / "p")
    spoil(tmp_path / "p", pickle.dumps(Payload("SENTINEL")))
    with pytest.raises((ValueError, TypeError), match=message):
        HubPolicy.from_pretrained(tmp_path / "p")
    assert not (tmp_path / "SENTINEL").exists()


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch_es.hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="`huggingface_hub` is not installed; it comes with the extra `hub`"):
        __import__("torch_es.hub")
