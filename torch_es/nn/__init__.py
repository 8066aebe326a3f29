"""Layers for evolved networks."""

from torch_es.nn.observation_norm import ObservationNorm as ObservationNorm
from torch_es.nn.observation_norm import normalize as normalize
