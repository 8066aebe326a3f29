"""A search space in Hydra's syntax: `optimizer.lr=tag(log, interval(0.001, 0.1))`, `env=hopper,swimmer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer

from torch_es.cli.config import parsed_overrides
from torch_es.errors import needs

_SHARE = 8**-0.5  # of an interval; irrational, so that the point there is no whole number


def split(overrides: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the overrides that fix a value, and for each other key the space to search.

    Raises:
        ValueError: If one is not an override.

    Example:
        >>> split(["env=hopper", "optimizer.lr=interval(0.001,0.1)"])
        (['env=hopper'], {'optimizer.lr': 'interval(0.001,0.1)'})
    """
    parsed = list(zip(overrides, parsed_overrides(overrides), strict=True))
    searched = (text.partition("=") for text, o in parsed if o.is_sweep_override())
    return [text for text, o in parsed if not o.is_sweep_override()], {key: space for key, _, space in searched}


def distributions(space: dict[str, str]) -> dict[str, Any]:
    """Return Optuna's distribution of each key.

    Args:
        space: The space of each key: `interval(A, B)` of numbers, `int(interval(A, B))` of whole ones, either in
            `tag(log, ...)`; `range(A, B, STEP)` without B; `A,B,C` or `choice(A, B, C)` of values.

    Raises:
        ValueError: If a value is none of these.
        MissingExtraError: If Optuna is not installed.

    Example:
        >>> distributions({"strategy.sigma": "tag(log, interval(0.01, 0.1))", "strategy.num_pairs": "8,16"})
        {'strategy.sigma': FloatDistribution(high=0.1, log=True, low=0.01, step=None), ...}
    """
    parsed = parsed_overrides([f"{key}={text}" for key, text in space.items()])
    return {key: _distribution(override) for key, override in zip(space, parsed, strict=True)}


def some_value(distribution: Any) -> Any:
    """Return a value that a distribution may suggest; of real numbers one that is not whole.

    Example:
        >>> space = distributions({"strategy.num_pairs": "interval(4, 9.0)"})
        >>> round(some_value(space["strategy.num_pairs"]), 2)
        5.77
    """
    with needs("sweep"):
        from optuna.distributions import FloatDistribution
    if hasattr(distribution, "choices"):
        return distribution.choices[0]
    if isinstance(distribution, FloatDistribution) and distribution.step is None:
        return distribution.low + _SHARE * (distribution.high - distribution.low)
    return distribution.low


def _distribution(override: Override) -> Any:
    with needs("sweep"):
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    value, key = override.value(), override.key_or_group
    if isinstance(value, IntervalSweep):
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        kind: Any = IntDistribution if whole else FloatDistribution
        try:
            return kind(value.start, value.end, log="log" in value.tags)
        except ValueError as error:
            raise ValueError(f"`{key}` cannot be searched: {error}") from error
    if isinstance(value, RangeSweep):
        steps = sorted(value.range())
        if not steps or value.tags:
            rule = "holds nothing" if not steps else "takes no tag; list the values, as A,B,C"
            raise ValueError(
                f"`{key}` cannot be searched in {str(override.input_line).partition('=')[2]}, which {rule}."
            )
        return (IntDistribution if isinstance(steps[0], int) else FloatDistribution)(
            steps[0], steps[-1], step=abs(value.step)
        )
    if override.is_choice_sweep():
        return CategoricalDistribution(tuple(override.sweep_iterator(Transformer.encode)))
    raise ValueError(
        f"`{key}` cannot be searched in {value!r}; give interval(A,B), int(interval(A,B)), range(A,B,STEP) or A,B,C."
    )
