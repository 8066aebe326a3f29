"""From a network's outputs to actions: heads, and the noise on actions while training."""

from torch_es.heads.boxes import BoxHead as BoxHead
from torch_es.heads.choices import make_head as make_head
from torch_es.heads.choices import unbatched as unbatched
from torch_es.heads.noise import ActionNoise as ActionNoise
from torch_es.heads.noise import GivenNoise as GivenNoise
from torch_es.heads.noise import make_action_noise as make_action_noise
from torch_es.heads.protocol import Head as Head

__all__ = ["ActionNoise", "Head", "make_action_noise", "make_head"]
