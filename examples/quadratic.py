"""The first example of the blog post "Evolution Strategies as a Scalable Alternative": find three numbers.

50 members a generation, sigma 0.1, step size 0.001, returns standardised, 300 generations, as in the post's code
(https://gist.github.com/karpathy/77fbb6a8dac5395f1b73e7a89300318d); the members here come in mirrored pairs.
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
