"""The program of a worker process: one player, one pipe, one thread."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import multiprocessing
import os
import pickle
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType

import torch
from torch import Tensor

from torch_es.envs.index import set_worker
from torch_es.evaluators import pickling
from torch_es.evaluators.wire import FAILED, LANES, SUMMED, Board, pack_results
from torch_es.rollout import Player, Snapshot
from torch_es.search.noise import BLOCK
from torch_es.search.perturbation import Noisy, chunks, columns
from torch_es.types import Float64Array

Parts = list[tuple[int, int]]
# meant for the parent, which ends the workers; each platform has its own
PARENTS_SIGNALS = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, n))
SAY_WHERE = getattr(signal, "SIGUSR2", None)  # makes a worker write its stack, even if it hangs; not on Windows
_PULSE = 0.5  # seconds
_MARGIN, _LONGEST = 5.0, 1e6  # seconds; faulthandler counts no longer


def main(
    connection: Connection,
    stacks: Connection,
    board: Board,
    steps: Tensor,
    payload: bytes,
    number: int,
    patience: float,
) -> None:
    """Serve the parent until it says stop or goes away.

    Args:
        connection: Receives commands and sends results.
        stacks: The stack is written here after a crash, or when the parent asks.
        board: The shared memory.
        steps: Shared too: how many steps each worker took, so that the parent can tell a slow worker from a hung one.
        payload: Makes the player.
        number: This worker's number.
        patience: Seconds without a step after which the parent would kill this process.
    """
    _settle(stacks)
    set_worker(number)
    try:
        player = pickling.player(payload)
        threading.Thread(target=_pulse, args=(player, steps[number], stacks, patience), daemon=True).start()
        gc.collect()
        gc.freeze()  # what exists now stays: the garbage collector need not look at it again
        connection.send_bytes(LANES.pack(player.num_lanes))
        _serve(connection, board, player)
        player.close()
    except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
        _report(connection, error)
        os._exit(1)


def _pulse(player: Player, steps: Tensor, stacks: Connection, patience: float) -> None:
    """Report every half second how far the player is, from a thread of its own, which costs the player nothing.

    While C code holds the interpreter's lock, no Python code notices that the parent is gone. So the process also ends
    if this thread does not run for longer than the parent would wait.
    """
    while True:
        steps.fill_(player.steps)
        faulthandler.dump_traceback_later(min(patience, _LONGEST) + _MARGIN, exit=True, file=stacks.fileno())  # F11c
        time.sleep(_PULSE)


def _settle(stacks: Connection) -> None:
    """Use one thread, leave signals to the parent, end when the parent ends, and write the stack after a crash."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # so that whatever an environment starts can be killed together with the worker
    threading.Thread(target=_end_with_parent, daemon=True).start()  # F11a
    own = os.getpid()

    def leave_to_parent(number: int, _: FrameType | None) -> None:
        if os.getpid() != own:  # forked by an environment, and ended by it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else leave_to_parent)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS_SIGNALS)  # blocked by the parent while we started
    if SAY_WHERE is not None:
        faulthandler.enable(stacks.fileno())  # F02
        faulthandler.register(SAY_WHERE, stacks.fileno())
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """Wait until the parent is gone, then kill this process and what it started."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while parent.is_alive() and os.getppid() == parent.pid:  # its pipe alone may be held open by another child of it
        parent.join(_PULSE)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _serve(connection: Connection, board: Board, player: Player) -> None:
    message_waits = _poll(connection)

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
            elif command == "sum":
                assert snapshot is not None  # posted before
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
        out = columns(board.parts[chunk, : 1 if squared is None else 2], block)
        noise.sum_span(out, block * BLOCK, pairs[chunk], linear, squared)


def _poll(connection: Connection) -> Callable[[], bool]:
    """Return a function that says whether a message waits."""
    if not hasattr(select, "poll"):
        return connection.poll  # builds a selector each time, 20 times the cost
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return lambda: bool(poll.poll(0))


def _report(connection: Connection, error: BaseException) -> None:
    """Send the parent an exception's name, text and traceback, and the exception itself if it can be pickled."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    try:
        text = str(error)
    except Exception as another:  # noqa: BLE001 - whatever a user's exception raises when it is asked for its text
        text = f"its text cannot be had ({type(another).__name__})"
    trace = traceback.format_exc()
    itself = pickling.pickled(error)
    with contextlib.suppress(OSError):  # the parent is gone, nobody is left to tell
        connection.send_bytes(FAILED + pickle.dumps((kind, text, trace, itself)))
