"""Lanes for any module: traced and batched, or one copy for each lane."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from torch_es.nn import find_norm, prepare
from torch_es.nn.carried import copied
from torch_es.nn.observation_norm import Statistics
from torch_es.policies.recurrent import State, dtype_of, initial_state, is_recurrent, respond
from torch_es.search.parameters import FlatParameters, remembered_buffers
from torch_es.spaces.layout import Inputs, Layout
from torch_es.types import Float32Array

Tensors = dict[str, Tensor]

_READINGS = {Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__, Tensor.__repr__}


class Member:
    """A copy of the network that takes the weights of one member after another, each at the start of an episode."""

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        self.network = copied(network)
        self.parameters = FlatParameters(self.network)
        self.dtype = dtype_of(network)
        self._layout = layout
        self._norm = find_norm(self.network)
        self._renew_buffers = remembered_buffers(self.network, [*self._norm.buffers()] if self._norm else [])
        self._reference: tuple[Any, ...] = ()

    def begin(self, reference: Float32Array | None, scale: Statistics | None) -> None:
        """See `Lanes.begin`."""
        if self._norm is not None and scale is not None:
            self._norm.freeze(*scale)
        if reference is not None:
            state = (initial_state(self.network, len(reference)),) if is_recurrent(self.network) else ()
            self._reference = (self.inputs(reference), *state)

    def inputs(self, rows: Float32Array) -> Inputs:
        """Return what the network takes for rows `(batch, size)`."""
        return self._layout.inputs(torch.from_numpy(rows).to(self.dtype))

    @torch.inference_mode(False)
    @torch.no_grad()
    def start(self, theta: Tensor) -> State:
        """Become the member with the weights `theta`: fresh buffers, prepared; return the initial state."""
        self.parameters.write_module(theta)
        self._renew_buffers()
        prepare(self.network, *self._reference)
        # detached: a view of a parameter remembers that it has a gradient even here
        return tree_map(torch.Tensor.detach, initial_state(self.network, 1))


class TracedLanes:
    """Any module that can be traced: one lane is traced into plain operations, and `vmap` batches these."""

    def __init__(
        self, network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None
    ) -> None:
        member = self._member = Member(network, layout)
        member.begin(reference, None)
        one, *kept = traced(member, layout.size)
        self._parameters, self._buffers, self._state = stacked(kept, num_lanes)
        inputs = member.inputs(np.zeros((num_lanes, layout.size), np.float32))
        self._graph = make_fx(vmap(one))(self._parameters, self._buffers, inputs, self._state)

    def begin(self, reference: Float32Array | None, scale: Statistics | None) -> None:
        """See `Lanes.begin`."""
        self._member.begin(reference, scale)

    def write(self, lane: int, theta: Tensor) -> None:
        """See `Lanes.write`."""
        state = self._member.start(theta)
        for name, p in self._member.parameters.named.items():
            self._parameters[name][lane] = p.detach()
        for name, buffer in self._member.network.named_buffers():
            self._buffers[name][lane] = buffer
        tree_map(lambda all_, own: all_[lane].copy_(own), self._state, state)

    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        output, *changed = self._graph(self._parameters, self._buffers, self._member.inputs(rows), self._state)
        tree_map(lambda old, new: old.copy_(new), [self._buffers, self._state], changed)
        array: Float32Array = output.float().numpy()
        return array


class CopiedLanes:
    """One copy of the module for each lane: slow, but correct for every module."""

    def __init__(
        self, network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None
    ) -> None:
        self._members = [Member(network, layout) for _ in range(num_lanes)]
        self._states: list[State] = [()] * num_lanes
        self.begin(reference, None)

    def begin(self, reference: Float32Array | None, scale: Statistics | None) -> None:
        """See `Lanes.begin`."""
        for member in self._members:
            member.begin(reference, scale)

    def write(self, lane: int, theta: Tensor) -> None:
        """See `Lanes.write`."""
        self._states[lane] = self._members[lane].start(theta)

    @torch.inference_mode(False)  # in which a network could not take a gradient inside, as in `predict` it can
    @torch.no_grad()
    def forward(self, rows: Float32Array, active: Sequence[int]) -> Float32Array:
        """See `Lanes.forward`."""
        outputs: dict[int, Tensor] = {}
        for lane in active:
            member = self._members[lane]
            inputs = member.inputs(rows[lane : lane + 1].copy())  # a state may hold them, and the rows are written anew
            outputs[lane], self._states[lane] = respond(member.network, inputs, self._states[lane])
        together = torch.zeros(len(rows), next(iter(outputs.values())).numel(), device="cpu")
        for lane, output in outputs.items():
            together[lane] = output[0]
        array: Float32Array = together.numpy()
        return array


def traced(member: Member, size: int) -> tuple[fx.GraphModule, Tensors, Tensors, State]:
    """Trace a call of a member's network with one observation of so many elements.

    Returns:
        The trace, a function of parameters, buffers, the observation and the state, which answers the output and the
        next buffers and state; and the member's own parameters, buffers and state.
    """
    state = tree_map(torch.clone, member.start(member.parameters.read_masters()))  # two parts may share memory
    frozen = {n: p.detach() for n, p in member.network.named_parameters() if not p.requires_grad}

    def call(parameters: Tensors, buffers: Tensors, inputs: Inputs, state: State) -> tuple[Tensor, Tensors, State]:
        tensors = {**parameters, **frozen, **buffers}
        given = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves([buffers, state])}

        def apart(old: Tensor, new: Tensor) -> Tensor:  # those that change places would be written over each other
            return new.clone() if new is not old and new.untyped_storage().data_ptr() in given else new

        output, after = respond(member.network, tree_map(lambda x: x[None], inputs), state, tensors)
        return output[0], *tree_map(apart, (buffers, state), ({n: tensors[n] for n in buffers}, after))

    parameters = {n: p.detach() for n, p in member.parameters.named.items()}
    buffers = dict(member.network.named_buffers())
    inputs = member.inputs(np.zeros((1, size), np.float32))
    with plain_kernels(), _Unread():
        one = make_fx(call)(parameters, buffers, tree_map(lambda x: x[0], inputs), state)
    for operation in (node.target for node in one.graph.nodes):
        # x[whole numbers] is among them, and `vmap` refuses x[mask]
        if (
            torch.Tag.dynamic_output_shape in getattr(operation, "tags", ())
            and operation != torch.ops.aten.index.Tensor
        ):
            raise RuntimeError(f"the shape of what `{operation}` returns depends on values")
    return one, parameters, buffers, state


def stacked(tensors: Any, num_lanes: int) -> Any:
    """Return a copy of each tensor of a tree for each lane, `(num_lanes, ...)`."""
    return tree_map(lambda tensor: tensor.detach().expand(num_lanes, *tensor.shape).clone(), tensors)


class _Unread(TorchFunctionMode):
    """Ends a trace where values are read out of a tensor: the trace would have them as constants, without a word.

    PyTorch itself refuses `.item()` and branches on tensors.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READINGS:
            raise RuntimeError(f"`{func.__name__}` reads values out of a tensor")
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def plain_kernels() -> Iterator[None]:
    """Keep fused kernels of recurrent layers and attention out of a trace: `vmap` knows only the operations in them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
