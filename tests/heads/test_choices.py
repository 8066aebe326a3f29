import gymnasium as gym
import pytest
from sample_spaces import BOX1
from torch import nn

from torch_es.heads import make_head
from torch_es.policies import Policy


def test_spaces_without_a_head_are_refused():
    with pytest.raises(ValueError, match=r"`action_space` must be Box.*or a Dict or Tuple of these, got Text"):
        make_head(gym.spaces.Text(2))
    with pytest.raises(ValueError, match=r"`observation_space` must be a Box.*got Text"):
        Policy(nn.Linear(3, 1), gym.spaces.Text(3), BOX1)
