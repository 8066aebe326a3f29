"""A simulator with a port of its own: the index says which."""

import socket

import pytest
from helpers import Stepper, bits_of_training

from torch_es.envs import env_index

PORT = 45671


class Simulator(Stepper):
    """Listens on a port, as Unity's, CARLA's and Webots' bridges do."""

    def __init__(self):
        super().__init__()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", PORT + env_index()))

    def close(self):
        self.socket.close()
