"""Find three numbers: the first example of OpenAI's announcement of evolution strategies, in 2017.

It has 50 members in a generation, sigma 0.1, step size 0.001, standardised returns and 300 generations, like the
original (https://gist.github.com/karpathy/77fbb6a8dac5395f1b73e7a89300318d). Here, members come in mirrored pairs.
"""

from functools import partial

import torch

from torch_es import OpenAIES

solution = torch.tensor([0.5, 0.1, -0.3])
start = torch.randn(3, generator=torch.Generator().manual_seed(0))
es = OpenAIES(start, partial(torch.optim.SGD, lr=0.001), sigma=0.1, population_size=50, shaping="z_score")

for generation in range(300):
    if generation % 20 == 0:
        w = es.theta
        print(f"generation {generation}: w {w.tolist()}, reward {-(w - solution).square().sum():.6f}")
    es.tell([-(w - solution).square().sum() for w in es.ask()])

w = es.theta
print(f"the end: w {w.tolist()}, reward {-(w - solution).square().sum():.6f}")
