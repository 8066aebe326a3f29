"""Policies: observation -> network -> action, and the lanes that play many perturbed ones at once."""

from torch_es.policies.action_noise import ActionNoise as ActionNoise
from torch_es.policies.action_noise import make_action_noise as make_action_noise
from torch_es.policies.heads import make_head as make_head
from torch_es.policies.heads import unbatched as unbatched
from torch_es.policies.lanes import Lanes as Lanes
from torch_es.policies.lanes import default_num_lanes as default_num_lanes
from torch_es.policies.lanes import make_lanes as make_lanes
from torch_es.policies.networks import Concatenate as Concatenate
from torch_es.policies.networks import atari_cnn as atari_cnn
from torch_es.policies.networks import make_network as make_network
from torch_es.policies.networks import mlp as mlp
from torch_es.policies.observations import Layout as Layout
from torch_es.policies.observations import reference_batch as reference_batch
from torch_es.policies.policy import Policy as Policy
from torch_es.policies.recurrent import RecurrentNetwork as RecurrentNetwork
