"""Layers for evolved networks."""

from torch_es.nn.observation_norm import ObservationNorm as ObservationNorm
from torch_es.nn.observation_norm import normalize as normalize
from torch_es.nn.virtual_batch_norm import VirtualBatchNorm as VirtualBatchNorm
from torch_es.nn.virtual_batch_norm import collect_statistics as collect_statistics
from torch_es.nn.virtual_batch_norm import convert_batch_norm as convert_batch_norm
from torch_es.nn.virtual_batch_norm import virtual_batch_norms as virtual_batch_norms
