"""Environments, made from an id with clear errors, and the rules of their episodes."""

from torch_es.envs.atari import Atari
from torch_es.envs.cap import AdaptiveCap, Cap, MeanCap
from torch_es.envs.index import env_index
from torch_es.envs.index import environments as environments
from torch_es.envs.make import ActionRepeat, env_factory
from torch_es.envs.make import Env as Env
from torch_es.envs.make import EnvFactory as EnvFactory
from torch_es.envs.make import bare as bare
from torch_es.envs.make import frames_per_step as frames_per_step
from torch_es.envs.make import repeated as repeated
from torch_es.envs.make import repeats as repeats
from torch_es.envs.probe import MASKS as MASKS
from torch_es.envs.probe import check_form as check_form
from torch_es.envs.probe import check_observation as check_observation
from torch_es.envs.probe import check_step as check_step
from torch_es.envs.probe import probed as probed
from torch_es.envs.probe import random_observations as random_observations
from torch_es.envs.rules import EpisodeRules

__all__ = [
    "ActionRepeat",
    "AdaptiveCap",
    "Atari",
    "Cap",
    "EpisodeRules",
    "MeanCap",
    "env_factory",
    "env_index",
]
