"""What runs in a worker process: one player, one pipe, one thread."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import select
import signal
import traceback
from multiprocessing.connection import Connection
from types import FrameType

import cloudpickle
import torch

from torch_es.evaluators.wire import FAILED, LANES, SUMMED, Board, pack_results
from torch_es.rollout import Player, Snapshot
from torch_es.search.perturbation import Noisy, chunks
from torch_es.types import Float64Array

PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # meant for the parent, which ends the workers
Parts = list[tuple[int, int]]
SAY_WHERE = signal.SIGUSR2  # has the worker write where it stands, also when it hangs


def main(connection: Connection, stacks: Connection, board: Board, payload: bytes, parent: int) -> None:
    """Serve the parent until it says stop or goes away.

    Args:
        connection: Commands in, results out.
        stacks: Where a crash, or the parent's asking, writes the stack.
        board: The shared memory.
        payload: Makes the player.
        parent: The parent's process id.
    """
    _settle(stacks, parent)
    try:
        player: Player = cloudpickle.loads(payload).player()
        gc.collect()
        gc.freeze()  # what stands now stays: the collector need not walk it again
        connection.send_bytes(LANES.pack(player.num_lanes))
        _serve(connection, board, player)
        player.close()
    except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
        _report(connection, error)
        os._exit(1)


def _settle(stacks: Connection, parent: int) -> None:
    """One thread; the parent alone handles signals; say where a crash happened."""
    os.setpgrp()  # what an environment starts can be ended together with the worker
    own = os.getpid()

    def leave_to_parent(number: int, _: FrameType | None) -> None:
        if os.getpid() != own:  # forked by an environment, and ended by it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else leave_to_parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS_SIGNALS)  # blocked by the parent while we started
    faulthandler.enable(stacks.fileno())
    faulthandler.register(SAY_WHERE, stacks.fileno())
    torch.set_num_threads(1)
    if os.getppid() != parent:  # it died before we could die with it
        os._exit(1)


def _serve(connection: Connection, board: Board, player: Player) -> None:
    poll = select.poll()  # connection.poll() builds a selector each time, 20 times the cost
    poll.register(connection.fileno(), select.POLLIN)

    def message_waits() -> bool:
        return bool(poll.poll(0))

    snapshot: Snapshot | None = None
    while True:
        while not player.outstanding or message_waits():
            command, *arguments = pickle.loads(connection.recv_bytes())
            if command == "stop":
                return
            if command == "begin":
                snapshot = board.load(*arguments)
                player.begin(snapshot)
            elif command == "play":
                for task in arguments[0]:
                    player.submit(task)
            elif command == "sum" and snapshot is not None:
                _sum(board, snapshot.perturbation, *arguments)  # type: ignore[arg-type]  # asked of noise alone
                connection.send_bytes(SUMMED)
        if results := player.advance(interrupt=message_waits):
            for result in results:
                board.keep_score(result)
            connection.send_bytes(pack_results(results))


def _sum(board: Board, noise: Noisy, parts: Parts, linear: Float64Array, squared: Float64Array | None) -> None:
    """Compute this worker's parts of a sum: (chunk of pairs, block of parameters)."""
    pairs = chunks(noise.dim, len(linear))
    for chunk, block in parts:
        out = board.parts[chunk, : 1 if squared is None else 2]
        noise.sum_block(out, block, pairs[chunk], linear, squared)


def _report(connection: Connection, error: BaseException) -> None:
    """Tell the parent: the name, the text, the traceback, and the exception itself where it can be pickled."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    trace = traceback.format_exc()
    try:
        itself = cloudpickle.dumps(error)
        pickle.loads(itself)
    except Exception:  # noqa: BLE001 - its class may not take its own arguments; the text must do
        itself = b""
    with contextlib.suppress(OSError):  # the parent is gone, nobody is left to tell
        connection.send_bytes(FAILED + pickle.dumps((kind, str(error), trace, itself)))
