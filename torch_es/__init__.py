"""torch_es: evolution strategies for any `torch.nn.Module`.

`ES` trains a policy; `OpenAIES`, `PGPE`, `SNES` and `ARS` optimise any function of a module or a vector;
`SearchGradient` writes into `.grad` where `loss.backward()` cannot.
"""

from torch_es.envs.rules import EpisodeRules as EpisodeRules
from torch_es.es import ES as ES
from torch_es.policies import Policy as Policy
from torch_es.policies import atari_cnn as atari_cnn
from torch_es.policies import mlp as mlp
from torch_es.search import ARS as ARS
from torch_es.search import PGPE as PGPE
from torch_es.search import SNES as SNES
from torch_es.search import OpenAIES as OpenAIES
from torch_es.search import SearchGradient as SearchGradient

__version__ = "0.1.0"
