"""What is evaluated and how it is played: episodes in lanes, or a function in their place."""

from torch_es.rollout.batch_fitness import BatchFitness as BatchFitness
from torch_es.rollout.episodes import Rollout as Rollout
from torch_es.rollout.function_player import Fitness as Fitness
from torch_es.rollout.function_player import FunctionPlayer as FunctionPlayer
from torch_es.rollout.objective import EnvObjective as EnvObjective
from torch_es.rollout.objective import FunctionObjective as FunctionObjective
from torch_es.rollout.objective import Objective as Objective
from torch_es.rollout.player import Behaviour as Behaviour
from torch_es.rollout.player import Player as Player
from torch_es.rollout.player import Snapshot as Snapshot
