"""Policies: from observation to action, and the networks to build them from."""

from torch_es.policies.networks import Concatenate as Concatenate
from torch_es.policies.networks import atari_cnn as atari_cnn
from torch_es.policies.networks import make_network as make_network
from torch_es.policies.networks import mlp as mlp
from torch_es.policies.policy import Policy as Policy
from torch_es.policies.recurrent import RecurrentNetwork as RecurrentNetwork
from torch_es.policies.reference import reference_batch as reference_batch
