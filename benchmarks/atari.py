"""Pong with the paper's network: where the time of training goes, which way the network is fastest, and evotorch.

Shares are those of the workers' time, measured inside them: stepping (`step` and `reset` of the environments), the
network's forwards, giving a lane its member (weights, and the statistics of virtual batch norm), and everything else,
which includes waiting for the last episode of a generation.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from pairs import Row, Side, alternate
from peers import evotorch_side
from physics import WORKERS, train
from threadpoolctl import threadpool_limits

from torch_es import ES, EpisodeRules, atari_cnn
from torch_es.envs import env_factory
from torch_es.lanes import default_num_lanes, make_lanes
from torch_es.lanes.modules import CopiedLanes, TracedLanes
from torch_es.search.parameters import FlatParameters
from torch_es.spaces import Layout

GAME = "ALE/Pong-v5"
NUM_PAIRS = 16  # a pair is one worker's, so that fewer would leave one waiting
SHAPE, ACTIONS = (4, 84, 84), 6
PARTS = {"stepping": "", "network": "", "a member's weights and statistics": "<= 0.05", "everything else": "<= 0.08"}


def rows(pairs: int) -> Iterator[Row]:
    """Yield the shares, the ways of the network, and evotorch."""
    yield from shares(pairs)
    yield from network_rows(pairs)
    yield from evotorch_rows(pairs)


def trainer(batch_norm: bool, max_steps: int | None) -> ES:
    network = atari_cnn(SHAPE, ACTIONS, batch_norm=batch_norm)
    rules = EpisodeRules(max_steps=max_steps)
    options = {"num_pairs": NUM_PAIRS, "sigma": 0.02, "eval_every": 0, "num_workers": WORKERS}
    return ES(network, GAME, rules=rules, **options)


class Clock:
    """Seconds spent in stepping, forwards and starts of members, by process, in a folder.

    Args:
        folder: Where every process keeps its own file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def player(self, make: Callable[[], Any]) -> Any:
        """Return a player whose parts are timed."""
        player = make()
        spent = np.memmap(self.folder / str(os.getpid()), np.float64, "w+", shape=(3,))

        def timed(function: Callable[..., Any], part: int) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                start = time.perf_counter()
                result = function(*args, **options)
                spent[part] += time.perf_counter() - start
                return result

            return call

        for bare in player._envs:
            bare.env.reset = timed(bare.env.reset, 0)
        player._steps = [timed(step, 0) for step in player._steps]
        player._lanes.forward = timed(player._lanes.forward, 1)
        player._lanes.write = timed(player._lanes.write, 2)
        return player

    def read(self) -> np.ndarray[Any, Any]:
        """Return the seconds of all processes together."""
        return np.sum([np.fromfile(file) for file in self.folder.iterdir()], axis=0)


def shares(pairs: int) -> Iterator[Row]:
    """Yield each part's microseconds a step, beside those of all, and steps/s beside those that stepping allows."""
    with tempfile.TemporaryDirectory() as folder, trainer(True, None) as es:
        clock, make = Clock(Path(folder)), es._player()
        es._player = lambda: partial(clock.player, make)  # type: ignore[method-assign]
        train(es, 1, None)  # start-up
        measured = []
        for _ in range(pairs):
            before = clock.read()
            steps, seconds = train(es, 1, None)
            parts, total = clock.read() - before, WORKERS * seconds
            measured.append((1e6 * np.array([*parts, total - parts.sum(), total]) / steps).tolist())
            print(f"atari: {steps / seconds:,.0f} steps/s, {np.round(measured[-1], 1)} us a step", flush=True)
    stepping, *_, whole = np.median(measured, axis=0).tolist()
    share = median(each[0] / each[-1] for each in measured)
    rate = 1e6 * WORKERS
    yield Row(f"atari/{GAME}/{WORKERS} workers", rate / whole, rate / stepping, share, "steps/s", pairs, "")
    for part, (name, target) in enumerate(PARTS.items()):
        own = median(each[part] for each in measured)
        share = median(each[part] / each[-1] for each in measured)
        yield Row(f"atari/{name}", own, whole, share, "us a step", pairs, target)


class ChannelsLast(torch.nn.Module):
    """The network in the other memory format, which pictures are brought into first."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return result


def network_rows(pairs: int) -> Iterator[Row]:
    """Yield observations answered a second by the lanes that the engine takes, beside other ways, on one thread."""
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's BLAS, as in workers
    layout = Layout(gym.spaces.Box(0, 255, SHAPE, np.uint8))
    pictures = np.random.default_rng(0).integers(0, 256, (128, layout.size)).astype(np.float32)
    network = atari_cnn(SHAPE, ACTIONS).eval()
    own = default_num_lanes(FlatParameters(network).dim)

    def side(lanes: Any, number: int) -> Side:
        theta = FlatParameters(network).read_masters()
        for lane in range(number):
            lanes.write(lane, theta)
        seen, active = pictures[:number], range(number)

        @torch.inference_mode()
        def measure() -> float:
            start = time.perf_counter()
            for _ in range(400 // number):
                lanes.forward(seen, active)
            return 400 // number * number / (time.perf_counter() - start)

        measure()
        return measure

    ours = side(make_lanes(network, own, layout, pictures), own)
    compiled = CopiedLanes(network, 1, layout, pictures)
    start = compiled._members[0]
    start.network.forward = torch.compile(start.network.forward)
    ways = {
        "one lane at a time": side(CopiedLanes(network, 1, layout, pictures), 1),
        "channels_last": side(CopiedLanes(ChannelsLast(copy.deepcopy(network)), 1, layout, pictures), 1),
        "torch.compile": side(compiled, 1),
        **{f"vmap of {n} lanes": side(TracedLanes(network, n, layout, pictures), n) for n in (1, 4, 8)},
    }
    for name, other in ways.items():
        yield alternate(f"atari/network/{name}", [(ours, other)] * pairs, "forwards/s", ">= 1")


class Single(torch.nn.Module):
    """The network for one observation without a batch, as evotorch calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = atari_cnn(SHAPE, ACTIONS, batch_norm=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.network(x.reshape(1, *SHAPE))[0]
        return result


def wrapped() -> Any:
    """Return the game as gymnasium's documentation makes it."""
    import ale_py  # noqa: F401 - its import registers the games

    game = gym.make(GAME, frameskip=1, repeat_action_probability=0.0)
    return FrameStackObservation(AtariPreprocessing(game), 4)


def evotorch_rows(pairs: int) -> Iterator[Row]:
    """Yield frames/s of training without virtual batch norm, which evotorch has not, in episodes of 250 steps."""
    for name, env in (("gymnasium's wrappers", wrapped), ("our environment", env_factory(GAME))):
        other, close = evotorch_side(env, Single, NUM_PAIRS, observation_normalization=False, episode_length=250)
        try:
            with trainer(False, 250) as es:

                def ours(es: ES = es) -> float:
                    steps, seconds = train(es, 1, None)
                    return 4 * steps / seconds

                ours(), other()  # start-up

                def theirs(other: Side = other) -> float:
                    return 4 * other()

                yield alternate(f"atari/evotorch GymNE, {name}", [(ours, theirs)] * pairs, "frames/s", ">= 1.5")
        finally:
            close()
