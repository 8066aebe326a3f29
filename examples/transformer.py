"""Teach a transformer to sort by generating and scoring alone: no gradient, no log-probabilities, no critic.

A small GPT-2 with random weights gets four digits and answers with four tokens, the likeliest one after another. The
score is the share that stands where it would in sorted order. Noise of rank 1 lets all members of a generation answer
in one call of the ordinary model. Needs transformers.
"""

from functools import partial

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from torch_es import ES, BatchFitness

LENGTH, DIGITS = 4, 6


MEMBERS = 128  # that answer in one call


def prompts(count: int, seed: int) -> Tensor:
    """Return rows of digits; the last token asks for the answer."""
    digits = torch.randint(DIGITS, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
    return torch.cat([digits, torch.full((count, 1), DIGITS)], 1)


def share_sorted(module: nn.Module, batch: Tensor) -> Tensor:
    """Return the score of each row."""
    tokens = module.generate(batch, attention_mask=torch.ones_like(batch), max_new_tokens=LENGTH, do_sample=False)
    return (tokens[:, -LENGTH:] == batch[:, :LENGTH].sort(1).values).float().mean(1)


def scores(module: nn.Module, batch: Tensor) -> Tensor:
    """Return the score of each member on each prompt."""
    return share_sorted(module, batch.repeat(MEMBERS, 1)).view(MEMBERS, -1)


torch.manual_seed(0)
config = GPT2Config(
    vocab_size=DIGITS + 1, n_positions=2 * LENGTH + 1, n_embd=32, n_layer=1, n_head=4, initializer_range=0.1,
    bos_token_id=None, eos_token_id=None,
)  # fmt: skip
model = GPT2LMHeadModel(config).eval()
fitness = BatchFitness(scores, batches=partial(prompts, 32), members_per_call=MEMBERS)
adam = partial(torch.optim.Adam, lr=0.02)
held_out = prompts(500, seed=10_000)
before = after = float(share_sorted(model, held_out).mean())


def report(metrics: dict[str, float]) -> None:
    global after
    if metrics["time/iterations"] % 25 == 0:
        after = float(share_sorted(model, held_out).mean())
        print(f"generation {metrics['time/iterations']:.0f}: {after:.3f} of tokens in order, {before:.3f} at the start")


with ES(model, fitness_fn=fitness, optimizer=adam, sigma=0.05, num_pairs=MEMBERS // 2, rank=1, num_workers=0) as es:
    es.learn(total_timesteps=MEMBERS * 200, callback=report)
