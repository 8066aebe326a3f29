"""Strategies: ask for a population, tell its returns. A new one is a file here and a row in `STRATEGIES`.

Each can optimise a plain function of a vector or of a module:

    >>> import torch
    >>> strategy = OpenAIES(torch.zeros(3), sigma=0.1)
    >>> metrics = strategy.tell([-(w**2).sum() for w in strategy.ask()])
"""

from typing import Any

from torch import nn

from torch_es.checks import check_choice
from torch_es.search.action_space import ActionSpaceES as ActionSpaceES
from torch_es.search.action_space import check_searches_actions as check_searches_actions
from torch_es.search.ars import ARS as ARS
from torch_es.search.centre import Centre as Centre
from torch_es.search.centre import OptimizerFactory as OptimizerFactory
from torch_es.search.centre import Population as Population
from torch_es.search.centre import SchedulerFactory as SchedulerFactory
from torch_es.search.centre import Sigma as Sigma
from torch_es.search.centre import perturbed as perturbed
from torch_es.search.centre import unperturbed as unperturbed
from torch_es.search.openai_es import OpenAIES as OpenAIES
from torch_es.search.pgpe import PGPE as PGPE
from torch_es.search.protocol import Strategy as Strategy
from torch_es.search.search_gradient import SearchGradient as SearchGradient
from torch_es.search.snes import SNES as SNES

__all__ = ["ARS", "PGPE", "SNES", "OpenAIES", "Population", "SearchGradient", "Strategy"]

STRATEGIES: dict[str, type] = {"openai_es": OpenAIES, "pgpe": PGPE, "snes": SNES, "ars": ARS}


def make_strategy(name: str, policy: nn.Module, options: dict[str, Any]) -> Strategy:
    """Return a strategy by its name; with `sigma` 0, the one that searches by action noise alone.

    Raises:
        ValueError: If the name, or an option for it, is unknown.
    """
    kind = STRATEGIES[check_choice("strategy", name, STRATEGIES)]
    if kind is OpenAIES and options.get("sigma") == 0:
        kind = ActionSpaceES
    made: Strategy = kind(policy, **options)
    return made
