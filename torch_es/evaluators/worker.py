"""What runs in a worker process: one player, one pipe, one thread."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import pickle
import select
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import torch

from torch_es.evaluators.wire import FAILED, SUMMED, Board, pack_results
from torch_es.gradient import noise_sum_block
from torch_es.rollout import Player

_PR_SET_PDEATHSIG = 1


def main(connection: Connection, board: Board, payload: bytes, parent: int) -> None:
    """Serve the parent until it says stop or goes away."""
    _settle(parent)
    try:
        player: Player = cloudpickle.loads(payload)()
        gc.collect()
        gc.freeze()  # what stands now stays: the collector need not walk it again
        connection.send_bytes(bytes([player.num_lanes]))
        _serve(connection, board, player)
        player.close()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)  # the parent is gone, nobody is left to tell
    except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
        _report(connection, error)
        os._exit(1)


def _settle(parent: int) -> None:
    """One thread; the parent alone handles Ctrl-C; die with the parent; say where a crash happened."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    torch.set_num_threads(1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _serve(connection: Connection, board: Board, player: Player) -> None:
    poll = select.poll()  # connection.poll() builds a selector each time, 20 times the cost
    poll.register(connection.fileno(), select.POLLIN)

    def message_waits() -> bool:
        return bool(poll.poll(0))

    while True:
        while not player.outstanding or message_waits():
            command, *arguments = pickle.loads(connection.recv_bytes())
            if command == "stop":
                return
            _obey(connection, board, player, command, arguments)
        if results := player.advance(interrupt=message_waits):
            connection.send_bytes(pack_results(results))


def _obey(connection: Connection, board: Board, player: Player, command: str, arguments: list[Any]) -> None:
    if command == "begin":
        player.begin(board.read(*arguments))
    elif command == "play":
        for task in arguments[0]:
            player.submit(task)
    elif command == "sum":
        generation, blocks, linear, squared = arguments
        out = board.sums[: 1 if squared is None else 2]
        for block in blocks:
            noise_sum_block(player.noise, out, generation, block, linear, squared)
        connection.send_bytes(SUMMED)


def _report(connection: Connection, error: BaseException) -> None:
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    try:
        connection.send_bytes(FAILED + pickle.dumps((kind, str(error), traceback.format_exc())))
    except OSError:
        traceback.print_exc()
