"""Playing tasks: episodes in lanes, or a function in their place."""

from torch_es.rollout.episodes import Rollout as Rollout
from torch_es.rollout.function_player import FunctionPlayer as FunctionPlayer
from torch_es.rollout.player import Player as Player
