"""`torch-es push`: a run's centre, with its results, to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from torch_es.cli import config
from torch_es.cli.playing import load, run_parser, settings_of
from torch_es.es import ES
from torch_es.hub import HubPolicy
from torch_es.loggers.progress import Terminal
from torch_es.runs.machine import describe


def push(arguments: list[str]) -> None:
    """Evaluate a run's centre and upload it to the Hugging Face Hub, with a model card that says how well it does."""
    parser = run_parser(push, best=True)
    parser.add_argument("repo", help="USER/NAME on the hub")
    parser.add_argument("--episodes", type=int, default=10, help="noise-free episodes of the evaluation")
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--folder", type=Path, help="write what would be uploaded to this new folder, upload nothing")
    given = parser.parse_args(arguments)
    if given.folder is not None and given.folder.exists():
        raise ValueError(f"`--folder` {given.folder} exists; name another.")
    with load(given, best=given.best) as es:
        policy = _shared(settings_of(given), es, given.episodes)
    video = given.run / "video.mp4"
    policy.video = video if video.is_file() else None
    if given.folder is not None:
        policy.save_pretrained(given.folder, model_card_kwargs={"repo_id": given.repo})
    where = given.folder or policy.push_to_hub(given.repo, private=given.private or None)
    Terminal().print(
        f"centre return {policy.results['mean_return']:,.1f} ± {policy.results['std_return']:,.1f}: {where}"
    )


def _shared(settings: config.Config, es: ES, episodes: int) -> HubPolicy:
    """Return the run's policy as one that can be shared, with its results."""
    returns = [episode.return_ for episode in es.evaluate(episodes)]
    results = {
        "mean_return": float(np.mean(returns)), "std_return": float(np.std(returns)), "episodes": len(returns),
        "total_timesteps": es.trainer.total_timesteps, "generation": es.strategy.generation,
        "strategy": settings["strategy"]["name"], "seed": settings["seed"], "versions": describe()["versions"],
    }  # fmt: skip
    policy = es.policy
    assert policy is not None
    described = {key: value for key, value in settings["policy"].items() if key not in config.ACTING}
    shared = HubPolicy(
        es.network if ":" in described["name"] else described,  # a class of the user's own is not described
        policy.layout.space,
        policy.action_space,
        **{key: settings["policy"][key] for key in config.ACTING if key in settings["policy"]},
        reference=policy.reference,
        env=settings["env"],
        results=results,
    )
    shared.load_state_dict(policy.state_dict())  # F38c
    return shared
