"""The policy: observation -> normalisation -> network -> head -> action, everything needed to act in one module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from torch_es.heads import BoxHead, GivenNoise, make_action_noise, make_head, unbatched
from torch_es.nn import ObservationNorm, batch_norms, collect_statistics, virtual_batch_norms
from torch_es.policies.export import export
from torch_es.policies.recurrent import State, initial_state, is_recurrent, respond, restarted
from torch_es.spaces.layout import Layout


class Policy(nn.Module):
    """Wraps a network for an environment's spaces; the network itself is kept, not copied.

    The network is called with a batch of float32 observations, a tensor `(batch, *shape)` or a dict or tuple of them
    (see `torch_es.spaces.layout`), and answers `(batch, size)`. One with a method `initial_state(batch_size)`
    is recurrent: it is called with `(observation, state)` and answers `(output, state)`.

    Args:
        network: Any module.
        observation_space: A Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict or Tuple of these.
        action_space: Likewise.
        normalize_observations: Whether to normalise measurements by running statistics.
        box_head: How outputs become actions of a Box; see `make_head`.
        action_noise: Noise on the actions of training, never of evaluation; see `make_action_noise`.
        reference: Observations as rows `(batch, size)`, whose statistics virtual batch norm normalises by.

    Raises:
        ValueError: If a space is of another kind, the output does not fit the action space, the network holds a
            BatchNorm layer, whose statistics population members would share, or a reference batch is missing.

    Example:
        >>> policy = Policy(nn.Linear(3, 2), gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2))
        >>> policy.act(np.zeros(3))[0].shape
        ()
    """

    reference: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        normalize_observations: bool = True,
        box_head: BoxHead = "clip",
        action_noise: GivenNoise | None = None,
        reference: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layout = Layout(observation_space)
        for name, layer in batch_norms(network).items():
            raise ValueError(
                f"`policy` holds {type(layer).__name__} at `{name}`, whose statistics a population would share; "
                "make it virtual with `torch_es.nn.convert_batch_norm(policy)`, or use LayerNorm or GroupNorm."
            )
        if virtual_batch_norms(network) and reference is None:
            raise ValueError("`reference` must be given: the network holds VirtualBatchNorm, which measures it.")
        self.network = network
        self.action_space = action_space
        self.head = make_head(action_space, box_head)
        self.action_noise = make_action_noise(action_space, self.head, action_noise) if action_noise else None
        normalize = normalize_observations and self.layout.measured.any()
        self.observation_norm = ObservationNorm(self.layout.size, measured=self.layout.measured) if normalize else None
        self.dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
        self.register_buffer("reference", reference)
        self._measured: list[Tensor] = []  # the weights that virtual batch norm's statistics belong to
        self._check_output()

    def forward(self, observation: Tensor, state: State = ()) -> Any:
        """Return actions for observations `(batch, ...)`; for a recurrent network, actions and the next state."""
        self.measure()
        output, state = self.respond(observation.reshape(len(observation), -1), state)
        actions = self.head(output)
        return (actions, state) if is_recurrent(self.network) else actions

    def normalized(self, rows: Tensor) -> Tensor:
        """Return observations as rows `(batch, size)`, normalised where the policy does that."""
        return rows if self.observation_norm is None else self.observation_norm(rows)

    def respond(self, rows: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the network's outputs `(batch, size)` for observations as rows, and the next state."""
        return respond(self.network, self.layout.inputs(self.normalized(rows).to(self.dtype)), state)

    def initial_state(self, batch_size: int = 1) -> State:
        """Return the state at the start of an episode; empty for a network without one."""
        return initial_state(self.network, batch_size)

    @torch.no_grad()
    def act(
        self,
        observation: Any,
        state: State = None,
        episode_start: Any = None,
        generator: np.random.Generator | None = None,
    ) -> tuple[Any, State]:
        """Return actions for one observation or a batch, and the next state; nothing in the policy changes.

        What the network keeps in buffers does not outlast the call: memory belongs into the state.

        Args:
            observation: One, or a batch of them.
            state: What the last call returned; None at the start of an episode.
            episode_start: Bool for each of the batch: where to begin with the initial state.
            generator: Of the action noise; without it actions have none.
        """
        rows, single = self.layout.rows(observation)
        self.measure()
        with _left_as_it_is(self.network):
            initial = self.initial_state(len(rows))
            if state is None:
                state = initial
            elif episode_start is not None:
                state = restarted(state, initial, torch.as_tensor(np.atleast_1d(episode_start), dtype=torch.bool))
            output, state = self.respond(torch.from_numpy(rows), state)
        noise, array = self.action_noise, (output.float() if output.dtype == torch.bfloat16 else output).numpy()
        if noise is None or generator is None:
            actions = self.head(array)
        else:
            actions = noise(array, np.stack([noise.draw(generator) for _ in rows]))
        return (unbatched(actions, 1)[0] if single else actions), state

    def export(self, path: str | Path, form: str | None = None) -> Path:
        """Write the policy as a file that acts without torch_es; see `torch_es.policies.export.export`."""
        return export(self, path, form)

    @torch.no_grad()
    def measure(self) -> None:
        """Have virtual batch norm measure the reference batch again if it or a weight has changed since."""
        if self.reference is None:
            return
        norm = self.observation_norm.buffers() if self.observation_norm else ()
        now = [*self.network.parameters(), *norm, self.reference]
        if len(now) == len(self._measured) and all(map(torch.equal, now, self._measured)):
            return
        inputs = self.layout.inputs(self.normalized(self.reference).to(self.dtype))
        with _left_as_it_is(self.network):
            state = (self.initial_state(len(self.reference)),) if is_recurrent(self.network) else ()
            collect_statistics(self.network, inputs, *state)
        self._measured = [tensor.detach().clone() for tensor in now]

    def _check_output(self) -> None:
        space = self.layout.space
        what = f"shape {space.shape}" if isinstance(space, gym.spaces.Box) else str(space)
        try:
            self.measure()
            with torch.no_grad(), _left_as_it_is(self.network):
                output, _ = self.respond(torch.zeros(1, self.layout.size), self.initial_state(1))
        except RuntimeError as error:
            raise ValueError(f"`policy` must take a batch of observations of {what}: {error}") from error
        if tuple(output.shape) != (1, self.head.size):
            raise ValueError(
                f"`policy` must answer (batch, {self.head.size}) to fit the action space, "
                f"got {tuple(output.shape)} for a batch of one."
            )


@contextlib.contextmanager
def _left_as_it_is(network: nn.Module) -> Iterator[None]:
    """Have the network in eval mode; afterwards modes and buffers are as before, but for what was measured."""
    modes = [(module, module.training) for module in network.modules()]
    measured = {id(b) for layer in virtual_batch_norms(network).values() for b in layer.buffers()}
    buffers = [(b, b.clone()) for b in network.buffers() if id(b) not in measured]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for buffer, value in buffers:
            buffer.copy_(value)
