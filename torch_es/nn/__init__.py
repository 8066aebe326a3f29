"""Layers for evolved networks: `__all__` is public, the rest is for the rooms above."""

from torch_es.nn.discrete import QuantizedWeights, Sign, Step, binarize, ternarize
from torch_es.nn.hard_attention import HardAttention
from torch_es.nn.hebbian import HebbianLinear
from torch_es.nn.observation_norm import ObservationNorm
from torch_es.nn.observation_norm import find_norm as find_norm
from torch_es.nn.prepare import Prepared
from torch_es.nn.prepare import prepare as prepare
from torch_es.nn.virtual_batch_norm import VirtualBatchNorm, collect_statistics, convert_batch_norm
from torch_es.nn.virtual_batch_norm import batch_norms as batch_norms
from torch_es.nn.virtual_batch_norm import virtual_batch_norms as virtual_batch_norms

__all__ = [
    "HardAttention",
    "HebbianLinear",
    "ObservationNorm",
    "Prepared",
    "QuantizedWeights",
    "Sign",
    "Step",
    "VirtualBatchNorm",
    "binarize",
    "collect_statistics",
    "convert_batch_norm",
    "ternarize",
]
