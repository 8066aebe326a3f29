import gymnasium as gym
import pytest
import torch
from torch import nn

from torch_es.policies import Policy

BOX3, TWO = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)


class Answers(nn.Module):
    """Hands a linear layer's output to a function."""

    def __init__(self, of):
        super().__init__()
        self.linear, self.of = nn.Linear(3, 2), of

    def forward(self, x):
        return self.of(self.linear(x))


class Recurrent(Answers):
    def initial_state(self, batch_size):
        return torch.zeros(batch_size, 1)

    def forward(self, x, state):
        return self.of(self.linear(x))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Answers(lambda y: {"logits": y, "value": y}), "got a dict with 'logits', 'value'"),
        (Answers(lambda y: (y, y)), "got a tuple of Tensor, Tensor; return the output .* an `initial_state`"),
        (Answers(lambda y: None), "got None"),
        (Answers(lambda y: y.numpy()), "got a ndarray"),
        (Answers(lambda y: torch.distributions.Categorical(logits=y)), "got a Categorical"),
        (Answers(lambda y: [y]), "got a list of Tensor"),
        (Recurrent(lambda y: y), r"has an `initial_state`, so it must answer \(output, next state\), got a Tensor"),
    ],
)
def test_an_answer_that_is_no_tensor_is_named(network, message):
    with pytest.raises(TypeError, match=f"`policy` .*{message}"):
        Policy(network, BOX3, TWO)
