"""Networks with a state: `forward(observation, state) -> (output, state)`, and `initial_state(batch_size) -> state`.

The state is a tensor, or a tuple, list or dict of tensors, each with the batch first. It belongs to one episode. The
player keeps it, hands it back at the next step, and begins each episode with the initial one. Plastic networks carry
their fast weights in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from torch_es.checks import check_choice, check_count
from torch_es.nn import ObservationNorm
from torch_es.seeding import check_seed
from torch_es.spaces.layout import Inputs, concatenated

State = Any  # a tree of tensors (batch, ...); an empty tuple for a network without
_CELLS: dict[str, Callable[[int, int], nn.RNNCellBase]] = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def is_recurrent(network: nn.Module) -> bool:
    """Whether the network takes a state and returns the next.

    Example:
        >>> is_recurrent(RecurrentNetwork(3, 2)), is_recurrent(nn.Linear(3, 2))
        (True, False)
    """
    return callable(getattr(network, "initial_state", None))


def initial_state(network: nn.Module, batch_size: int) -> State:
    """Return the state at the start of an episode; empty for a network without one."""
    return network.initial_state(batch_size) if is_recurrent(network) else ()  # type: ignore[operator]


def respond(network: nn.Module, inputs: Inputs, state: State, tensors: dict[str, Tensor] | None = None) -> Any:
    """Call any network the same way: `(output, next state)`.

    Args:
        network: Recurrent or not.
        inputs: Its observations, `(batch, ...)`.
        state: From `initial_state` or the last call.
        tensors: Parameters and buffers to use in place of the network's own.
    """
    given = (inputs, state) if is_recurrent(network) else (inputs,)
    answer: Any = network(*given) if tensors is None else functional_call(network, tensors, given)
    return answer if is_recurrent(network) else (answer, state)


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the dtype of a network's arithmetic, which its observations are given in: of its first real parameter.

    Example:
        >>> dtype_of(nn.Linear(3, 2).bfloat16())
        torch.bfloat16
    """
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


def restarted(state: State, initial: State, starts: Tensor) -> State:
    """Return the state with the rows of `starts`, bool `(batch,)`, as at the start of an episode.

    Example:
        >>> restarted(torch.ones(2, 1), torch.zeros(2, 1), torch.tensor([True, False]))
        tensor([[0.],
                [1.]])
    """
    return tree_map(lambda now, new: torch.where(starts.view(-1, *[1] * (now.dim() - 1)), new, now), state, initial)


class RecurrentNetwork(nn.Module):
    """A recurrent layer followed by a linear layer.

    Args:
        inputs: Elements of an observation, whatever its form.
        outputs: Elements of the output.
        kind: One of rnn, gru, lstm.
        hidden: Units of the recurrent layer.
        output_scale: Length of the last layer's incoming vectors.
        seed: The weights follow from it; torch's global generator is neither read nor seeded.
        normalize_observations: Whether an `ObservationNorm` comes first, which `ES` updates as it trains.

    Example:
        >>> network = RecurrentNetwork(3, 2, "gru", hidden=8)
        >>> output, state = network(torch.zeros(5, 3), network.initial_state(5))
        >>> output.shape, state.shape
        (torch.Size([5, 2]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kind: str = "gru",
        hidden: int = 32,
        output_scale: float = 0.01,
        seed: int = 0,
        normalize_observations: bool = True,
    ) -> None:
        super().__init__()
        self.observation_norm = (
            ObservationNorm(check_count("inputs", inputs)) if normalize_observations else nn.Identity()
        )
        cell = _CELLS[check_choice("kind", kind, _CELLS)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(check_seed(seed))
            self.cell = cell(inputs, check_count("hidden", hidden))
            self.output = nn.Linear(hidden, check_count("outputs", outputs))
        with torch.no_grad():
            self.output.weight.mul_(output_scale / self.output.weight.norm(dim=1, keepdim=True))
            self.output.bias.zero_()

    def initial_state(self, batch_size: int) -> State:
        """Return zeros: one tensor `(batch_size, hidden)`, two of them for an LSTM."""
        zeros = self.cell.weight_hh.new_zeros(batch_size, self.cell.hidden_size)
        return (zeros, zeros.clone()) if isinstance(self.cell, nn.LSTMCell) else zeros

    def forward(self, observation: Inputs, state: State) -> tuple[Tensor, State]:
        """Return outputs `(batch, outputs)` and the next state."""
        state = self.cell(self.observation_norm(concatenated(observation)), state)
        return self.output(state[0] if isinstance(state, tuple) else state), state
