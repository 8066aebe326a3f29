"""CleanRL's agents: the layers that decide an agent's actions, checked against the log-probabilities that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from torch_es.policies.amplified import amplified
from torch_es.policies.networks import Scale
from torch_es.policies.recurrent import initial_state, respond

_HINT = "give `ES` the module that turns observations into means or logits."
_PROBES = 4  # observations that an agent is tried with
_REACH = 10.0  # of its outputs in the trial; a new agent's are almost zero
_FAILURES = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError)  # of the agent's code
_PICTURES = (84, 64)  # sides of the pictures of Atari and of Procgen


class _ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class _Remembering(nn.Module):
    """A recurrent layer between two parts; its state has the batch first, as `torch_es` keeps states."""

    def __init__(self, before: nn.Module, memory: nn.RNNBase, last: nn.Module) -> None:
        super().__init__()
        self.before, self.memory, self.last = before, memory, last

    def initial_state(self, batch_size: int) -> Any:
        zeros = torch.zeros(batch_size, self.memory.num_layers, self.memory.hidden_size)
        zeros = zeros.to(self.memory.all_weights[0][0])
        return (zeros, zeros.clone()) if isinstance(self.memory, nn.LSTM) else zeros

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.memory(self.before(x)[None], _swapped(state))
        return self.last(hidden[0]), _swapped(state)


def _swapped(state: Any) -> Any:
    """Exchange the batch and the layers of a recurrent layer's state."""
    return tree_map(lambda tensor: tensor.transpose(0, 1).contiguous(), state)


def from_cleanrl(agent: nn.Module) -> nn.Module:
    """Return the layers that decide a CleanRL `Agent`'s actions, as a network for `ES`.

    The layers are the agent's own, so the agent is trained in place; its critic and deviations do not change. The
    agent's log-probabilities are used to check that `get_action_and_value` really acts by these layers.

    Args:
        agent: Has `actor` (scores of a discrete action) or `actor_mean` (means of a continuous one); before it
            `network`, if it sees pictures; and between them `lstm`, if it remembers.

    Raises:
        TypeError: If it lacks this method or these layers.
        ValueError: If it does not act by these layers alone.

    Example:
        >>> from torch.distributions import Categorical
        >>> class Agent(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.actor, self.critic = nn.Linear(4, 2), nn.Linear(4, 1)
        ...     def get_action_and_value(self, x, action=None):
        ...         probs = Categorical(logits=self.actor(x))
        ...         action = probs.sample() if action is None else action
        ...         return action, probs.log_prob(action), probs.entropy(), self.critic(x)
        >>> from_cleanrl(Agent())
        Linear(in_features=4, out_features=2, bias=True)
    """
    last = getattr(agent, "actor_mean", getattr(agent, "actor", None))
    if not (isinstance(last, nn.Module) and callable(getattr(agent, "get_action_and_value", None))):
        raise TypeError(
            "`agent` must have `get_action_and_value` and a module `actor` or `actor_mean`; "
            f"{type(agent).__name__} does not. Otherwise {_HINT}"
        )
    acts = _acts_by_scores if last is getattr(agent, "actor", None) else _acts_by_means
    name, failed = f"`agent` ({type(agent).__name__})", None
    for way, x in _ways(agent, last):
        try:
            if _tried(acts, agent, way, last, x):
                return way
        except _FAILURES as error:
            failed = failed or error
        else:
            raise ValueError(f"{name} does not act by these layers alone. Instead, {_HINT}")
    what = "its first layer is unknown" if failed is None else f"{type(failed).__name__} {failed}".strip()
    raise ValueError(f"{name} could not be tried: {what}. Instead, {_HINT}") from failed


def _ways(agent: nn.Module, last: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    """Yield the ways that an agent may go from observations to actions, each with observations to try it on."""
    network, memory = getattr(agent, "network", None), getattr(agent, "lstm", None)
    layers = [layer for layer in (network, memory, last) if layer is not None]
    first = next((m for m in layers[0].modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.RNNBase))), None)
    generator = torch.Generator().manual_seed(0)
    if isinstance(first, nn.Conv2d):
        scaled = [Scale(1 / 255), *layers]  # as CleanRL's agents do in their methods
        for side in _PICTURES:
            x = 255 * torch.rand(_PROBES, first.in_channels, side, side, generator=generator)
            yield _joined(scaled), x
            yield _joined([_ChannelsFirst(), *scaled]), x.permute(0, 2, 3, 1)
    elif first is not None:
        size = first.in_features if isinstance(first, nn.Linear) else first.input_size
        yield _joined(layers), 4 * torch.randn(_PROBES, size, generator=generator)


def _joined(layers: list[nn.Module]) -> nn.Module:
    *before, last = layers
    if before and isinstance(before[-1], nn.RNNBase):
        return _Remembering(nn.Sequential(*before[:-1]), before[-1], last)
    return nn.Sequential(*layers) if before else last


@torch.no_grad()
def _tried(acts: Any, agent: Any, way: nn.Module, last: nn.Module, x: Tensor) -> bool:
    """Whether an agent acts by `way`; what it draws for that is not drawn from torch's global generator.

    Args:
        acts: How its actions follow from outputs.
        agent: The agent.
        way: From observations to outputs.
        last: The last module of `way`.
        x: Observations.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = tree_map(torch.rand_like, initial_state(way, len(x)))
        with amplified(last, lambda: respond(way, x, state), _REACH):
            agreed: bool = acts(agent, x, state, respond(way, x, state)[0])
    return agreed


def _asked(agent: Any, x: Tensor, state: Any, action: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return an agent's action, or the one given, and its log-probability."""
    remembered = () if isinstance(state, tuple) and not state else (_swapped(state), torch.zeros(len(x)))
    answer = agent.get_action_and_value(x, *remembered, action=action)
    return answer[0], answer[1]


def _acts_by_scores(agent: Any, x: Tensor, state: Any, scores: Tensor) -> bool:
    """Whether each action is as likely as its score says."""
    expected = scores.log_softmax(1)
    actions = torch.arange(scores.shape[1])
    told = torch.stack([_asked(agent, x, state, action.expand(len(x)))[1] for action in actions], 1)
    return bool((told - expected).abs().max() < 1e-3 * _variation(expected) + 3e-6)


def _variation(outputs: Tensor) -> float:
    """Return how much outputs differ from observation to observation."""
    return float((outputs - outputs.mean(0)).abs().max())


def _acts_by_means(agent: Any, x: Tensor, state: Any, means: Tensor) -> bool:
    """Whether sampled actions are as likely as their squared distances from the means say.

    At each observation the log-probability of a Gaussian is linear in these squares. This holds too where actions are
    sampled around the mean, but judged around one that is shifted at random (RPO).
    """
    count = 4 * means.shape[1] + 16
    for i, mean in enumerate(means.double()):
        rows, memory = x[i : i + 1], tree_map(lambda tensor, at=i: tensor[at : at + 1], state)
        drawn = [_asked(agent, rows, memory, None) for _ in range(count)]
        actions, told = (torch.cat(parts).double() for parts in zip(*drawn, strict=True))
        terms = torch.cat([torch.ones(count, 1), (actions - mean) ** 2], 1)
        left = terms @ torch.linalg.lstsq(terms, told[:, None]).solution - told[:, None]
        if left.abs().max() > 2e-3 * _variation(means) + 3e-6:
            return False
    return True
