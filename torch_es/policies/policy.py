"""The policy: from an observation to an action, by a network and a head."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torch_es.heads import BoxHead, GivenNoise, make_action_noise, make_head, unbatched
from torch_es.nn import ObservationNorm, batch_norms, find_norm, prepare, virtual_batch_norms
from torch_es.nn.buffers import same_tensors
from torch_es.nn.prepare import prepared_parts
from torch_es.policies.answers import check_answer, check_state, refusal
from torch_es.policies.export import export
from torch_es.policies.recurrent import State, dtype_of, initial_state, is_recurrent, respond, restarted
from torch_es.search.parameters import kept_buffers
from torch_es.spaces.layout import Layout, concatenated, flat_rows

_FAR = 100.0  # beyond it a unit of usual weights is saturated
_log = logging.getLogger(__name__)


class Policy(nn.Module):
    """Wraps a network for an environment's spaces; the network itself is kept, not copied.

    The network is called with a batch of observations, a tensor `(batch, *shape)` or a dict or tuple of them (see
    `torch_es.spaces.layout`), and answers `(batch, size)`. One with a method `initial_state(batch_size)` is recurrent:
    it is called with `(observation, state)` and answers `(output, state)`. Observations are normalised if the network
    holds an `ObservationNorm`.

    Args:
        network: Any module.
        observation_space: A Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict or Tuple of these.
        action_space: Likewise.
        box_head: How outputs become actions of a Box; see `make_head`.
        action_noise: Noise on the actions of training, never of evaluation; see `make_action_noise`.
        reference: Observations as rows `(batch, size)`, for what the network prepares, as virtual batch norm does.

    Raises:
        ValueError: If a space is of another kind, the output does not fit the action space, the network holds a
            BatchNorm layer in train mode or an ObservationNorm of another size, or a reference batch is missing.
        TypeError: If the network answers with anything but a tensor.

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
        box_head: BoxHead = "clip",
        action_noise: GivenNoise | None = None,
        reference: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layout = Layout(observation_space)
        for name, layer in batch_norms(network).items():
            raise ValueError(
                f"`policy` holds {type(layer).__name__} in train mode at `{name}`, whose statistics a population would "
                "share; call `policy.eval()` to keep those it has, make it virtual with "
                "`torch_es.nn.convert_batch_norm(policy)`, or use LayerNorm or GroupNorm."
            )
        if virtual_batch_norms(network) and reference is None:
            raise ValueError("`reference` must be given: the network holds VirtualBatchNorm, which measures it.")
        self.network = network
        self.action_space = action_space
        self.head = make_head(action_space, box_head)
        self.action_noise = make_action_noise(action_space, self.head, action_noise) if action_noise else None
        self.register_buffer("reference", reference)
        self._prepared: list[Tensor] | None = None  # what the network was prepared for
        self.dtype = dtype_of(network)  # of the observations that the network is given
        self._check_output()

    @property
    def observation_norm(self) -> ObservationNorm | None:
        """The network's layer that training updates; None where it has none, or none of its elements are measured."""
        norm = find_norm(self.network)
        return norm if norm is not None and norm.measured.any() else None

    def forward(self, observation: Any, state: State = None, episode_start: Tensor | None = None) -> Any:
        """Return actions for a batch of observations, as tensors; for a recurrent network, actions and the next state.

        This is what `export` writes. In Python, `act` takes arrays.

        Args:
            observation: A tensor `(batch, *shape)` of what the environment gives, or a dict or tuple of them.
            state: See `act`.
            episode_start: See `act`.
        """
        self.prepare()
        rows = flat_rows(self.layout.space, observation)
        output, state = self.respond(rows, self._state(rows.shape[0], state, episode_start))  # F38b
        actions = self.head(output)
        return (actions, state) if is_recurrent(self.network) else actions

    def respond(self, rows: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the network's outputs `(batch, size)` for observations as rows, and the next state."""
        output, state = respond(self.network, self.layout.inputs(rows.to(self.dtype)), state)
        return output, state

    def initial_state(self, batch_size: int = 1) -> State:
        """Return the state at the start of an episode; empty for a network without one."""
        return initial_state(self.network, batch_size)

    def _state(self, batch_size: int, state: State, episode_start: Tensor | None) -> State:
        """Return the state to go on from: the initial one where an episode starts, otherwise `state`."""
        if state is None:
            return self.initial_state(batch_size)
        return state if episode_start is None else restarted(state, self.initial_state(1), episode_start)

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
        self.prepare()
        with _evaluating(self.network), kept_buffers(self.network):
            starts = None if episode_start is None else torch.as_tensor(np.atleast_1d(episode_start), dtype=torch.bool)
            output, state = self.respond(torch.tensor(rows, device="cpu"), self._state(len(rows), state, starts))
        noise, array = self.action_noise, _array(output)
        if noise is None or generator is None:
            actions = self.head(array)
        else:
            actions = noise(array, np.stack([noise.draw(generator) for _ in rows]))
        return (unbatched(actions, 1)[0] if single else actions), state

    def export(self, path: str | Path, form: str | None = None) -> Path:
        """Write the policy as a file that acts without torch_es; see `torch_es.policies.export.export`."""
        return export(self, path, form)

    @torch.no_grad()
    def prepare(self) -> None:
        """Prepare the network again if its weights, its statistics or the reference batch have changed since."""
        if not prepared_parts(self.network):
            return
        norm = self.observation_norm
        given = () if self.reference is None else (self.reference,)
        now = [*self.network.parameters(), *(norm.buffers() if norm else ()), *given]
        if (
            self._prepared is not None
            and len(now) == len(self._prepared)
            and all(map(torch.equal, now, self._prepared))
        ):
            return
        with _evaluating(self.network):
            if self.reference is None:
                prepare(self.network)
            else:
                state = (self.initial_state(len(self.reference)),) if is_recurrent(self.network) else ()
                prepare(self.network, self.layout.inputs(self.reference.to(self.dtype)), *state)
        self._prepared = [tensor.detach().clone() for tensor in now]

    def _check_output(self) -> None:
        """Try the network on an observation, in float64 where an ObservationNorm can take all that there is of it."""
        norm = find_norm(self.network)
        if norm is not None:
            _fit(norm, self.layout)
            own, self.dtype = self.dtype, torch.float64
            with contextlib.suppress(Exception):  # it uses the observation beside the norm, too
                return self._try(norm)
            self.dtype = own
        self._try(norm)

    @torch.no_grad()
    def _try(self, norm: ObservationNorm | None) -> None:
        space = copy.deepcopy(self.layout.space)
        space.seed(0)
        rows = torch.tensor(self.layout.row(space.sample()), device="cpu")[None]
        largest = float((rows.double().abs() * torch.from_numpy(self.layout.measured)).max())
        if norm is None and largest > _FAR:
            _log.warning(
                "`policy` gets observations as they come, and one of this space may hold %.6g. A network learns from "
                "numbers near 1: put `torch_es.nn.ObservationNorm(env.observation_space)` first in it.", largest
            )  # fmt: skip
        check_state(self.initial_state(5), 5)
        seen: list[Any] = []
        hook = norm.register_forward_pre_hook(lambda _, given: seen.append(given[0])) if norm is not None else None
        try:
            self.prepare()
            with _evaluating(self.network), kept_buffers(self.network):
                state = (self.initial_state(1),) if is_recurrent(self.network) else ()
                before = [buffer.clone() for buffer in self.network.buffers()]
                answer = self.network(self.layout.inputs(rows.to(self.dtype)), *state)
                self._check_memory(before)
        except Exception as error:
            raise ValueError(refusal(self.network, space, error)) from error
        finally:
            if hook is not None:
                hook.remove()
        if norm is not None and not any(torch.equal(concatenated(given), rows.to(self.dtype)) for given in seen):
            raise ValueError(
                "`policy` must call its ObservationNorm with the observation as it comes, the whole of it."
            )
        check_answer(answer, self.head.size, is_recurrent(self.network))
        if isinstance(self.action_space, gym.spaces.Box):  # whose head may be one of the user's own
            output = answer[0] if is_recurrent(self.network) else answer
            action = self.head(_array(output))
            if np.shape(action) != (1, *self.action_space.shape):
                raise ValueError(
                    f"`box_head` must return actions (batch, *{self.action_space.shape}), got {np.shape(action)} for a "
                    "batch of one."
                )

    def _check_memory(self, before: list[Tensor]) -> None:
        """Warn if the network changed a buffer, which is not what it was called for."""
        now = zip(self.network.named_buffers(), before, strict=False)
        if changed := [name for (name, buffer), was in now if not same_tensors({name: buffer}, {name: was})]:
            _log.warning(
                "`policy` changes its buffer %s when it acts. Episodes in training remember that to their end, but "
                "`predict` and an exported file forget it at once: what is to be remembered belongs into the state of "
                "a recurrent network.", ", ".join(changed)
            )  # fmt: skip


def _array(output: Tensor) -> npt.NDArray[Any]:
    """Return outputs as an array; NumPy has no bfloat16."""
    array: npt.NDArray[Any] = (output.float() if output.dtype == torch.bfloat16 else output).numpy()
    return array


def _fit(norm: ObservationNorm, layout: Layout) -> None:
    """Let a norm normalise the observations of a layout."""
    if norm.size != layout.size:
        raise ValueError(
            f"`policy` holds an ObservationNorm of {norm.size} elements, and an observation has {layout.size}; make it "
            "of the observation as it comes, `ObservationNorm(env.observation_space)`."
        )
    if norm.by_kind:
        norm.measured.copy_(torch.from_numpy(layout.measured))


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Have the network in eval mode; afterwards each part has the mode that it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
