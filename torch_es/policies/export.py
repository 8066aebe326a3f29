"""A policy as one file that runs without torch_es: `torch.export` (.pt2) for PyTorch, ONNX for anything else.

Observation in, action out: one-hot coding, normalisation, virtual batch norm's statistics, the network and its head are
all inside. A recurrent policy takes two inputs more, the state that the last call returned and `episode_start`, where
it begins anew, and returns the next state.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_map, tree_unflatten

from torch_es.checks import check_choice
from torch_es.errors import MissingExtraError
from torch_es.policies.head import Head
from torch_es.policies.observations import Layout
from torch_es.policies.recurrent import State, restarted

FORMATS = ("onnx", "pt2")
_SAMPLES = 5  # observations on which the exported policy must act as the policy does
_SEED = 0


class _Exportable(Protocol):
    """What is needed of a `Policy`."""

    layout: Layout
    head: Head

    def respond(self, rows: Tensor, state: State) -> tuple[Tensor, State]: ...

    def act(self, observation: Any, state: State = None) -> tuple[Any, State]: ...

    def initial_state(self, batch_size: int = 1) -> State: ...


class Acting(nn.Module):
    """What is exported: from a batch of observations, as the environment gives them, to a batch of actions.

    Args:
        policy: In evaluation mode, virtual batch norm's statistics measured.
    """

    def __init__(self, policy: _Exportable) -> None:
        super().__init__()
        self.policy = policy  # registered: a Policy is a module
        self.initial = policy.initial_state(1)

    def forward(self, observation: Any, state: State = None, episode_start: Tensor | None = None) -> Any:
        """Return actions; with a state, actions and the next one."""
        rows = _rows(self.policy.layout.space, observation)
        if episode_start is None:
            return self.policy.head(self.policy.respond(rows, ())[0])
        output, state = self.policy.respond(rows, restarted(state, self.initial, episode_start))
        return self.policy.head(output), state


def export(policy: Any, path: str | Path, form: str | None = None) -> Path:
    """Write a policy as a file that acts alone, having made sure that it acts as the policy does.

    The number of observations in a batch is free. Inputs have the dtypes of the observation space; their ONNX names
    are `observation`, or `observation.KEY` for the parts of a Dict or Tuple, `state` and `episode_start`; the outputs'
    `action` and `next_state`, likewise.

    Args:
        policy: A `Policy`; it is not changed. Noise on actions is left out, as in evaluation.
        path: The file.
        form: "onnx" or "pt2"; by default what `path` ends with.

    Raises:
        ValueError: If the network cannot be exported: torch.export follows no control flow that depends on data and no
            code outside torch. What it stumbled over is named, and nothing is written.
        MissingExtraError: If a package that ONNX needs is not installed.

    Example:
        >>> import tempfile
        >>> from torch_es.policies import Policy
        >>> policy = Policy(nn.Linear(3, 2), gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2))
        >>> path = policy.export(Path(tempfile.mkdtemp()) / "policy.pt2")
        >>> torch.export.load(path).module()(torch.zeros(7, 3)).shape
        torch.Size([7])
    """
    path = Path(path)
    form = check_choice("form", form if form is not None else path.suffix[1:], FORMATS)
    policy = copy.deepcopy(policy).eval().requires_grad_(False)
    steps = _played(policy)  # has the statistics measured, too
    acting = Acting(policy).eval()
    program = _traced(acting, steps[-1][0])
    _check(program.module(), steps)
    save = _onnx(program, steps) if form == "onnx" else lambda file: torch.export.save(program, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path)
    return path


_Step = tuple[tuple[Any, ...], Any]  # what the exported policy is called with, and what it is to return


def _played(policy: _Exportable) -> list[_Step]:
    """Return calls of the exported policy with the policy's own answers: two steps of several episodes."""
    space = copy.deepcopy(policy.layout.space)
    space.seed(_SEED)
    state, steps = None, []
    for number in range(2):
        observations = [space.sample() for _ in range(_SAMPLES)]
        before = [None] * _SAMPLES if state is None else state
        answers = [policy.act(o, own) for o, own in zip(observations, before, strict=True)]
        state = [own for _, own in answers]
        given, actions = _batched(observations), _batched([action for action, _ in answers])
        if not tree_flatten(state)[0]:  # not recurrent
            steps.append(((given,), actions))
            continue
        start = torch.full((_SAMPLES,), number == 0)
        # at the start of an episode whatever stands in the state is not used
        held = tree_map(torch.ones_like, _together(state)) if number == 0 else _together(before)
        steps.append(((given, held, start), (actions, _together(state))))
    return steps


def _batched(values: list[Any]) -> Any:
    """Return observations or actions of one space as tensors with a batch in front."""
    leaves = [tree_flatten(value)[0] for value in values]
    stacked = [
        torch.from_numpy(np.stack([np.asarray(leaf) for leaf in column])) for column in zip(*leaves, strict=True)
    ]
    return tree_unflatten(stacked, tree_flatten(values[0])[1])


def _together(states: list[State]) -> State:
    return tree_map(lambda *rows: torch.cat(rows), *states)


def _rows(space: gym.Space[Any], observation: Any) -> Tensor:
    """Return a batch of observations as rows `(batch, size)`: `Layout.row` for tensors.

    Example:
        >>> _rows(gym.spaces.Discrete(3, start=5), torch.tensor([5, 7]))
        tensor([[ True, False, False],
                [False, False,  True]])
    """
    if isinstance(space, gym.spaces.Dict):
        return torch.cat([_rows(part, observation[name]) for name, part in space.spaces.items()], 1)
    if isinstance(space, gym.spaces.Tuple):
        return torch.cat([_rows(part, own) for part, own in zip(space.spaces, observation, strict=True)], 1)
    if isinstance(space, gym.spaces.Discrete):
        return observation[:, None] == torch.arange(int(space.n)) + int(space.start)
    flat: Tensor = observation.flatten(1)
    if isinstance(space, gym.spaces.MultiDiscrete):
        counts, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
        places = [torch.arange(count) + start for count, start in zip(counts, starts, strict=True)]
        return torch.cat([flat[:, i : i + 1] == place for i, place in enumerate(places)], 1)
    return flat


def _traced(acting: Acting, arguments: tuple[Any, ...]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    try:
        with _quiet():
            return torch.export.export(acting, arguments, dynamic_shapes=tree_map(lambda _: {0: batch}, arguments))
    except Exception as error:  # noqa: BLE001 - whatever the network's own code raises when it is traced
        fixed = "its forward fixes the size of the batch (write x.shape[0], not len(x))"
        reason = fixed if "(batch)" in str(error) else f"torch.export says: {_first_line(error)}"
        raise ValueError(f"`policy` cannot be exported, {reason}.") from error


def _check(run: Callable[..., Any], steps: list[_Step]) -> None:
    for arguments, expected in steps:
        for own, other in zip(tree_flatten(run(*arguments))[0], tree_flatten(expected)[0], strict=True):
            if not torch.allclose(own.to(other.dtype), other, rtol=1e-4, atol=1e-5):
                raise ValueError(
                    "`policy` cannot be exported: the exported program acts otherwise than the policy, by up to "
                    f"{float((own.double() - other.double()).abs().max()):.3g}; what its forward does with random "
                    "numbers or outside torch was recorded, not followed."
                )


def _onnx(program: torch.export.ExportedProgram, steps: list[_Step]) -> Callable[[Path], None]:
    """Return what writes the program as an ONNX file."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "onnx") from error
    arguments, expected = steps[0]
    inputs = [name for part in zip(("observation", "state", "episode_start"), arguments) for name in _names(*part)]
    returned = expected if len(arguments) > 1 else (expected,)
    outputs = [name for part in zip(("action", "next_state"), returned) for name in _names(*part)]
    try:
        with _quiet():
            made = torch.onnx.export(program, input_names=inputs, output_names=outputs, dynamo=True, verbose=False)
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f"`policy` cannot be exported to ONNX, torch.onnx says: {_first_line(error)}") from error
    assert made is not None
    session = onnxruntime.InferenceSession(made.model_proto.SerializeToString())
    structure = tree_flatten(expected)[1]

    def run(*given: Any) -> Any:
        feed = dict(zip(inputs, (leaf.numpy() for leaf in tree_flatten(given)[0]), strict=True))
        return tree_unflatten([torch.from_numpy(np.asarray(array)) for array in session.run(outputs, feed)], structure)

    _check(run, steps)
    return lambda path: made.save(path, external_data=False)


def _names(name: str, tree: Any) -> list[str]:
    """Return names for the leaves of a tree.

    Example:
        >>> _names("observation", {"arm": 0, "gears": (1, 2)})
        ['observation.arm', 'observation.gears.0', 'observation.gears.1']
    """
    paths = [path for path, _ in tree_flatten_with_path(tree)[0]]
    return [".".join([name, *(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)]) for path in paths]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch warns of its own code, and of packages that it misses and we do not need."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
