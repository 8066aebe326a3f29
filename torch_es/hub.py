"""Sharing a policy on the Hugging Face Hub, with huggingface_hub's mixin.

A shared policy is data: weights, statistics and reference batch as safetensors, the rest as JSON. Loading it executes
nothing from it. Importing this module needs the extra `hub`.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import safetensors
import safetensors.torch
from torch import Tensor, nn

from torch_es.errors import needs
from torch_es.heads import make_head
from torch_es.policies import Policy, make_network
from torch_es.spaces.plain import plain_space, space_of

with needs("hub"):
    from huggingface_hub import EvalResult, ModelCard, ModelCardData, PyTorchModelHubMixin, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

__all__ = ["HubPolicy"]

_WEIGHTS = "model.safetensors"


_CODERS = {gym.Space: (plain_space, space_of)}


class HubPolicy(
    Policy,
    PyTorchModelHubMixin,
    library_name="torch-evolution",
    pipeline_tag="reinforcement-learning",
    tags=["reinforcement-learning", "evolution-strategies"],
    coders=_CODERS,
):
    """A `Policy` with `save_pretrained`, `push_to_hub` and `from_pretrained`.

    Args:
        network: The options of a network of this library, as in `conf/policy`, or any module. config.json cannot
            describe a module of your own, so give `from_pretrained` one of the same architecture again.
        observation_space: See `Policy`.
        action_space: See `Policy`.
        box_head: See `Policy`.
        action_noise: See `Policy`.
        reference: See `Policy`; saved with the weights.
        env: The environment that it was trained for: plain data with an `id`.
        results: How well it does: plain data; `mean_return`, `std_return` and `episodes` go into the model card.

    Raises:
        TypeError: If `box_head` or `action_noise` is no name, or `env` or `results` is no plain data.

    Attributes:
        video: An MP4 file to save beside it, if there is one.

    Example:
        >>> import tempfile
        >>> spaces = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)
        >>> policy = HubPolicy({"name": "mlp", "hidden": [8]}, *spaces, env={"id": "Toy-v0"})
        >>> _ = policy.save_pretrained(folder := tempfile.mkdtemp())
        >>> HubPolicy.from_pretrained(folder).env
        {'id': 'Toy-v0'}
    """

    def __init__(
        self,
        network: nn.Module | Mapping[str, Any],
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        box_head: str = "clip",
        action_noise: str | None = None,
        reference: Tensor | None = None,
        env: Mapping[str, Any] | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in {"box_head": box_head, "action_noise": action_noise}.items():
            if not isinstance(value, (str, type(None))):  # config.json would hold the default in its place
                raise TypeError(
                    f"`{name}` must be a name, as 'tanh', to be shared as data, got a {type(value).__name__}; put what "
                    "it does into the network, or save a Policy with `torch.save`."
                )
        for name, told in {"env": env, "results": results}.items():
            _check_plain(name, told)
        described = isinstance(network, Mapping)
        if isinstance(network, Mapping):
            network = make_network(observation_space, make_head(action_space, box_head).size, **network)
        super().__init__(network, observation_space, action_space, box_head, action_noise, reference)
        self.env, self.results = dict(env or {}), dict(results or {})
        self.video: Path | None = None
        self._described = described  # config.json says how to make the network

    def __init_subclass__(cls, **options: Any) -> None:
        """Describe spaces for subclasses too; of all options, the mixin does not inherit this one."""
        super().__init_subclass__(**{**options, "coders": {**_CODERS, **(options.get("coders") or {})}})

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        if self.results:
            (save_directory / "results.json").write_text(json.dumps({"env": self.env, **self.results}, indent=2))
        if self.video is not None:
            shutil.copyfile(self.video, save_directory / "replay.mp4")

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, config: Mapping[str, Any] | None = None, map_location: str = "cpu",
        strict: bool = True, **options: Any,
    ) -> HubPolicy:  # fmt: skip
        where = {name: options.pop(name) for name in _WHERE}
        made_by = [vars(kind)["__init__"] for kind in cls.__mro__ if "__init__" in vars(kind)]
        known = {name for function in made_by[:-1] for name in inspect.signature(function).parameters}
        if unknown := sorted(set(config or {}) - known):
            raise ValueError(f"config.json of `{model_id}` holds {', '.join(unknown)}, which is none of a policy's.")
        for name in ("network", "observation_space", "action_space"):
            if name not in options:
                raise ValueError(f"config.json of `{model_id}` describes no {name}; pass `{name}` yourself.")
        for name in ("observation_space", "action_space"):
            if not isinstance(options[name], gym.Space):
                options[name] = space_of(options[name])
        path = _downloaded(model_id, where)
        try:
            options["reference"] = safetensors.torch.load_file(path).get("reference")
            policy = cls(**options)
            safetensors.torch.load_model(policy, path, strict=strict)
        except safetensors.SafetensorError as error:
            raise ValueError(f"`{model_id}`: {_WEIGHTS} is no safetensors file: {error}.") from error
        except RuntimeError as error:
            raise ValueError(f"`{model_id}`: the weights are of another network: {error}.") from error
        return policy.eval().to(map_location)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the policy with its model card; see huggingface_hub's `ModelHubMixin.push_to_hub` for options."""
        card = {"repo_id": repo_id, **(options.pop("model_card_kwargs", None) or {})}
        return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    def generate_model_card(self, repo_id: str = "USER/REPOSITORY") -> ModelCard:
        """Return the model card: its metadata with the results as a model-index, and how to use the policy."""
        name, shared = self.env.get("id", "an environment"), self._hub_mixin_info.model_card_data
        score = ""
        measured: dict[str, Any] = {}
        if "mean_return" in self.results:
            value = f"{self.results['mean_return']:.2f}"
            if "std_return" in self.results:
                value += f" +/- {self.results['std_return']:.2f}"
            over = f" over {self.results['episodes']} noise-free episodes" if "episodes" in self.results else ""
            score = f"Mean return **{value}**{over}."
            result = EvalResult(
                task_type="reinforcement-learning", task_name="reinforcement-learning",
                dataset_type=name, dataset_name=name,
                metric_type="mean_reward", metric_name="mean_reward", metric_value=value,
            )  # fmt: skip
            measured = {"model_name": f"evolution strategies on {name}", "eval_results": [result]}
        data = ModelCardData(
            library_name=shared.library_name,
            pipeline_tag=shared.pipeline_tag,
            tags=sorted({*(shared.tags or ()), *([name] if self.env else ())}),
            **measured,
        )
        rows = {**{f"env.{key}": value for key, value in self.env.items()}, **self.results}
        facts = "\n".join(f"| {key} | {json.dumps(value)} |" for key, value in sorted(rows.items()))
        network = "" if self._described else ", network=network"
        inside = _INSIDE if self._described else _OWN_NETWORK
        text = _CARD.format(
            data=data.to_yaml(), name=name, score=score, inside=inside, repo_id=repo_id, network=network, facts=facts
        )
        return ModelCard(text)


_WHERE = ("revision", "cache_dir", "force_download", "local_files_only", "token")  # of a download

_INSIDE = "Normalisation and everything else that is needed to act is inside."
_OWN_NETWORK = "`network` is a module of the same architecture, which this repository does not describe."

_CARD = """---
{data}
---

# A policy for {name}, by evolution strategies

{score}

Trained by torch_es (Evolution Strategies, Salimans et al. 2017). {inside}

```python
# pip install "torch-evolution[hub]"
from torch_es.hub import HubPolicy

policy = HubPolicy.from_pretrained("{repo_id}"{network})
action, state = policy.act(observation)
```

| | |
|---|---|
{facts}
"""


def _check_plain(name: str, told: Mapping[str, Any] | None) -> None:
    """Refuse what JSON cannot hold, before anything is written."""
    try:
        json.dumps(dict(told or {}))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be plain data, as JSON holds it: {error}; use float(...) or str(...)."
        ) from error


def _downloaded(model_id: str, where: dict[str, Any]) -> Path:
    """Return the file of the weights: safetensors, or none at all, since other formats may hold code."""
    missing = f"`{model_id}` holds no {_WEIGHTS}; no other format is read."
    if Path(model_id).is_dir():
        path = Path(model_id) / _WEIGHTS
        if not path.is_file():
            raise ValueError(missing)
        return path
    try:
        return Path(hf_hub_download(model_id, _WEIGHTS, **where))
    except EntryNotFoundError as error:
        raise ValueError(missing) from error
