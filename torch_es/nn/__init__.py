"""Layers for evolved networks."""

from torch_es.nn.discrete import QuantizedWeights as QuantizedWeights
from torch_es.nn.discrete import Sign as Sign
from torch_es.nn.discrete import Step as Step
from torch_es.nn.discrete import binarize as binarize
from torch_es.nn.discrete import step as step
from torch_es.nn.discrete import ternarize as ternarize
from torch_es.nn.hard_attention import HardAttention as HardAttention
from torch_es.nn.hard_attention import hard_attention as hard_attention
from torch_es.nn.hebbian import HebbianLinear as HebbianLinear
from torch_es.nn.observation_norm import ObservationNorm as ObservationNorm
from torch_es.nn.observation_norm import normalize as normalize
from torch_es.nn.virtual_batch_norm import VirtualBatchNorm as VirtualBatchNorm
from torch_es.nn.virtual_batch_norm import batch_norms as batch_norms
from torch_es.nn.virtual_batch_norm import collect_statistics as collect_statistics
from torch_es.nn.virtual_batch_norm import convert_batch_norm as convert_batch_norm
from torch_es.nn.virtual_batch_norm import virtual_batch_norms as virtual_batch_norms
