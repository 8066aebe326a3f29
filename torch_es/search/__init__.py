"""The algorithm: strategies ask for a population and are told its outcome.

A new strategy is a file here and a row in `STRATEGIES`. Each can optimise a plain function of a vector or of a module:

    >>> import torch
    >>> strategy = OpenAIES(torch.zeros(3), sigma=0.1)
    >>> metrics = strategy.tell([-(w**2).sum() for w in strategy.ask()])
"""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from torch_es.checks import check_choice
from torch_es.search.action_space import ActionSpaceES as ActionSpaceES
from torch_es.search.action_space import check_searches_actions as check_searches_actions
from torch_es.search.ars import ARS as ARS
from torch_es.search.centre import CentreSearch as CentreSearch
from torch_es.search.centre import SearchOptions as SearchOptions
from torch_es.search.low_rank import LowRank as LowRank
from torch_es.search.openai_es import OpenAIES as OpenAIES
from torch_es.search.perturbation import Mirrored as Mirrored
from torch_es.search.perturbation import Perturbation as Perturbation
from torch_es.search.perturbation import Sigma as Sigma
from torch_es.search.perturbation import Unperturbed as Unperturbed
from torch_es.search.pgpe import PGPE as PGPE
from torch_es.search.protocol import OptimizerFactory as OptimizerFactory
from torch_es.search.protocol import Outcome as Outcome
from torch_es.search.protocol import Population as Population
from torch_es.search.protocol import SchedulerFactory as SchedulerFactory
from torch_es.search.protocol import Strategy as Strategy
from torch_es.search.search_gradient import SearchGradient as SearchGradient
from torch_es.search.snes import SNES as SNES

__all__ = [
    "ARS",
    "PGPE",
    "SNES",
    "CentreSearch",
    "LowRank",
    "Mirrored",
    "OpenAIES",
    "Outcome",
    "Perturbation",
    "Population",
    "SearchGradient",
    "Strategy",
]

STRATEGIES: dict[str, Callable[..., Strategy]] = {"openai_es": OpenAIES, "pgpe": PGPE, "snes": SNES, "ars": ARS}


def strategy_options(name: str) -> dict[str, Any]:
    """Return the arguments that a strategy takes, with their defaults.

    Example:
        >>> strategy_options("snes")["sigma"]
        0.1
    """
    own = list(inspect.signature(STRATEGIES[check_choice("strategy", name, STRATEGIES)]).parameters.values())[1:]
    defaults = {p.name: p.default for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD}
    shared = inspect.signature(CentreSearch).parameters
    return {**defaults, **{name: shared[name].default for name in SearchOptions.__annotations__}}


def make_strategy(strategy: str | Strategy | Callable[..., Strategy], policy: nn.Module, **options: Any) -> Strategy:
    """Return the strategy of `ES`.

    Args:
        strategy: A name of `STRATEGIES`; with `sigma` 0, openai_es searches by action noise alone. Or a function that
            makes a strategy of the module, or a strategy that was made of it.
        policy: The module to search.
        options: For the strategy.

    Raises:
        TypeError: If it is none of these.
        ValueError: If the name is unknown, or a strategy that was made searches another module or is given options.
    """
    if isinstance(strategy, str):
        searches_actions = strategy == "openai_es" and options.get("sigma") == 0
        return (ActionSpaceES if searches_actions else STRATEGIES[strategy])(policy, **options)
    if callable(strategy):
        return strategy(policy, **options)
    if not all(hasattr(strategy, name) for name in ("ask", "tell", "theta")):
        raise TypeError(f"`strategy` must be a name, a strategy or a function that makes one, got {strategy!r}.")
    if strategy.parameters.module is not policy:
        raise ValueError("`strategy` searches another module than `policy`; make it of the same one.")
    for name, value in options.items():
        if name != "seed":  # which `ES` always gives
            raise ValueError(
                f"`{name}` must be left out with a strategy that was made already, got {value!r}; "
                "give it where the strategy is made."
            )
    return strategy


def made_with(made: Strategy, strategy: object, given: dict[str, Any]) -> dict[str, Any]:
    """Return what a strategy was made with: what was given, and for one of `STRATEGIES` the other arguments too.

    So a run is not continued with another default.
    """
    if not isinstance(strategy, str):
        return given
    found = {name: getattr(made, name, None) for name in ("num_pairs", "noise")}
    return {**strategy_options(strategy), **given, **found, "population_size": None}
