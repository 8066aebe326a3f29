"""Teach a transformer to sort by generating and scoring alone: no gradient, no log-probabilities, no critic.

A small GPT-2 with random weights gets four digits and answers with four tokens, the likeliest one after another. The
score is the share that stands where it would in sorted order. Noise of rank 1 lets all members of a generation answer
in one call of the ordinary model. Needs transformers.
"""

from functools import partial

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from torch_es import OpenAIES
from torch_es.lanes.together import Together

LENGTH, DIGITS = 4, 6


def prompts(count: int) -> Tensor:
    """Return rows of digits; the last token asks for the answer."""
    return torch.cat([torch.randint(DIGITS, (count, LENGTH)), torch.full((count, 1), DIGITS)], 1)


def share_sorted(module: nn.Module, batch: Tensor) -> Tensor:
    """Return the score of each row."""
    tokens = module.generate(batch, attention_mask=torch.ones_like(batch), max_new_tokens=LENGTH, do_sample=False)
    return (tokens[:, -LENGTH:] == batch[:, :LENGTH].sort(1).values).float().mean(1)


torch.manual_seed(0)
config = GPT2Config(
    vocab_size=DIGITS + 1, n_positions=2 * LENGTH + 1, n_embd=32, n_layer=1, n_head=4, initializer_range=0.1,
    bos_token_id=None, eos_token_id=None,
)  # fmt: skip
model = GPT2LMHeadModel(config).eval()
es = OpenAIES(model, partial(torch.optim.Adam, lr=0.02), sigma=0.05, num_pairs=64, rank=1)
members = 2 * es.num_pairs
together = Together(model, es.ask().perturbation.parts, members)

held_out = prompts(500)
before = after = float(share_sorted(model, held_out).mean())
while es.generation < 200:
    population = es.ask()
    for member in range(members):
        together.write(member, population.perturbation.factors(population.theta, member))
    with torch.no_grad(), together:
        scores = share_sorted(model, prompts(32).repeat(members, 1)).view(members, -1).mean(1)
    es.tell(scores.tolist())
    if es.generation % 25 == 0:
        after = float(share_sorted(model, held_out).mean())
        print(f"generation {es.generation}: {after:.3f} of tokens in order, {before:.3f} at the start")
