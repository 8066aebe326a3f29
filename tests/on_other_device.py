"""What `test_device.py` runs in a process of its own: each case on the CPU and on a device beside it."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import other_device  # noqa: F401 - makes the device
import torch
from torch import nn

from torch_es import ARS, ES, BatchFitness, OpenAIES, SearchGradient

MEMBERS, ROWS = 8, 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 7))


def device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


@torch.no_grad()
def nearness(module: nn.Module) -> float:
    assert all(p.device == device_of(module) for p in module.parameters())
    return -float(sum((p - 0.5).square().sum() for p in module.parameters()))


def prompts(generation: int) -> torch.Tensor:
    return torch.randint(6, (ROWS, 5), generator=torch.Generator().manual_seed(generation))


def sorted_tokens(module: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    rows = batch.to(device_of(module)).repeat(MEMBERS, 1)
    mask = torch.ones_like(rows)
    tokens = module.generate(rows, attention_mask=mask, max_new_tokens=3, do_sample=False)[:, -3:].cpu()
    return (tokens == tokens.sort(1).values).float().mean(1).view(MEMBERS, -1)


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=7, n_positions=9, n_embd=32, n_layer=1, n_head=4, initializer_range=0.3,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def learned(device: str | None, **options: Any) -> torch.Tensor:
    module = network()
    options = {"optimizer": partial(torch.optim.SGD, lr=0.05), "num_pairs": 2, "sigma": 0.1, **options}
    es = ES(module, fitness_fn=nearness, device=device, noise="philox", num_workers=0, eval_every=0, **options)
    es.learn(4 * 2)
    assert nearness(module) != nearness(network())
    return held(es)


def held(es: ES) -> torch.Tensor:
    """Return theta, which stands in the memory of the CPU and is what the module has."""
    assert es.strategy.theta.is_cpu
    assert not es.strategy.parameters.changed(es.strategy.theta)
    return es.strategy.theta


def generated(device: str | None) -> torch.Tensor:
    fitness = BatchFitness(sorted_tokens, prompts, members_per_call=MEMBERS)
    es = ES(gpt2(), fitness_fn=fitness, device=device, noise="philox", rank=1, num_pairs=4, num_workers=0, eval_every=0)
    es.learn(8 * 2)
    return held(es)


def own_loop(device: str | None, make: Any = OpenAIES) -> torch.Tensor:
    module = network().to(device or "cpu")
    strategy = make(module, num_pairs=4, noise="philox", rank=1)
    for _ in range(2):
        strategy.tell([nearness(member) for member in strategy.ask()])
    return strategy.theta


def search_gradient(device: str | None, **options: Any) -> torch.Tensor:
    module = network().to(device or "cpu")
    SearchGradient(module, num_pairs=4, noise="philox", **options).backward(nearness)
    return torch.cat([p.grad.reshape(-1).cpu() for p in module.parameters()])


def resumed(device: str | None, folder: str = "") -> torch.Tensor:
    options = {"fitness_fn": nearness, "noise": "philox", "num_workers": 0, "num_pairs": 4, "seed": 3, "device": device}
    with ES(network(), **options) as es:
        es.learn(8 * 2).save(folder)
    other = "other" if device is None else None  # a run goes on elsewhere
    options = {**options, "device": other}
    del options["noise"]  # the checkpoint says which
    es = ES.load(folder, network(), **options)
    assert (device_of(es.network).type == "other") == (other is not None)
    return held(es.learn(8 * 2))


def bfloat16(device: str | None) -> torch.Tensor:
    module = network().to(torch.bfloat16)
    es = ES(module, fitness_fn=nearness, device=device, noise="philox", num_pairs=4, num_workers=0, eval_every=0)
    return held(es.learn(8 * 2))


def main(folder: str) -> None:
    cases = {
        "dense": learned,
        "rank 1": partial(learned, rank=1),
        "pgpe": partial(learned, strategy="pgpe"),
        "groups": partial(learned, optimizer=grouped),
        "generate": generated,
        "own loop": own_loop,
        "ars": partial(own_loop, make=ARS),
        "gradient": search_gradient,
        "gradient of rank 1": partial(search_gradient, rank=1),
        "resumed": partial(resumed, folder=folder),
        "bfloat16": bfloat16,
    }
    differ = {name: float((case(None) - case("other")).abs().max()) for name, case in cases.items()}
    refused = {}
    for name, options in {"env": {"env": "CartPole-v1"}, "sfc64": {"fitness_fn": nearness, "noise": "sfc64"}}.items():
        try:
            ES(network(), device="other", **options)
        except ValueError as error:
            refused[name] = str(error)
    print(json.dumps({"differ": differ, "refused": refused}))


def grouped(parameters: Any) -> torch.optim.Optimizer:
    """Make groups with a sigma of their own."""
    first, *others = parameters
    return torch.optim.SGD([{"params": [first], "sigma": 0.2}, {"params": others}], lr=0.05)


if __name__ == "__main__":
    main(sys.argv[1])
