"""What `test_device.py` runs in a process of its own: each case on the CPU and on a device beside it.

python tests/on_other_device.py FOLDER cuda    # on a real one
"""

from __future__ import annotations

import contextlib
import json
import sys
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from torch_es import ARS, ES, BatchFitness, OpenAIES, SearchGradient
from torch_es.search.philox import PhiloxNoise

MEMBERS, ROWS = 8, 4
FOLDER, DEVICE = sys.argv[1:]
if DEVICE == "other":
    import other_device  # noqa: F401 - makes it


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
    worth = es.evaluate(3)[0].return_  # the centre alone
    assert np.isfinite(worth)
    return torch.cat([held(es), torch.tensor([worth])])


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
    other = DEVICE if device is None else None  # a run goes on elsewhere
    options = {**options, "device": other}
    del options["noise"]  # the checkpoint says which
    es = ES.load(folder, network(), **options)
    assert (device_of(es.network).type == DEVICE) == (other is not None)
    return held(es.learn(8 * 2))


def many_pairs(device: str | None, **options: Any) -> torch.Tensor:
    """Sum more pairs than one chunk has."""
    module = nn.Linear(3, 2).to(device or "cpu")
    nn.init.ones_(module.weight)
    nn.init.zeros_(module.bias)
    strategy = OpenAIES(module, num_pairs=70, noise="philox", **options)
    strategy.tell([nearness(member) for member in strategy.ask()])
    return strategy.theta


def two_devices(device: str | None, **options: Any) -> torch.Tensor:
    module = network()
    module[3].to(device or "cpu")
    strategy = OpenAIES(module, num_pairs=4, noise="philox", **options)
    for _ in range(2):
        strategy.tell([float(member[0].weight.sum() + member[3].weight.sum().cpu()) for member in strategy.ask()])
    return strategy.theta


class Optimistic(torch.optim.Optimizer):
    """Keeps the gradient of the last step as it got it."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self) -> None:
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            before = self.state[p].get("before", torch.zeros_like(p))
            p.sub_(0.2 * p.grad - 0.1 * before)
            self.state[p]["before"] = p.grad


def empty(device: str | None, rank: int | None = None) -> torch.Tensor:
    torch.manual_seed(0)
    nothing = nn.ParameterList([torch.zeros(0), torch.zeros(0, 3)])
    module = nn.Sequential(nn.Linear(2, 4), nothing, nn.Linear(4, 3)).to(device or "cpu")
    strategy = OpenAIES(module, num_pairs=2, noise="philox", rank=rank)
    strategy.tell([nearness(member) for member in strategy.ask()])
    return strategy.theta


def with_defaults(device: str | None) -> torch.Tensor:
    """Evolve while torch makes its tensors elsewhere, as scripts for GPUs set it."""
    with torch.device(device or "cpu"):
        strategy = OpenAIES(network_on("cpu"), num_pairs=4, noise="philox", rank=1)
        strategy.tell([nearness(member) for member in strategy.ask()])
        return strategy.theta


def network_on(device: str) -> nn.Module:
    with torch.device(device):
        return network()


def bfloat16(device: str | None) -> torch.Tensor:
    module = network().to(torch.bfloat16)
    es = ES(module, fitness_fn=nearness, device=device, noise="philox", num_pairs=4, num_workers=0, eval_every=0)
    return held(es.learn(8 * 2))


def main(folder: str) -> None:
    cases = {
        "dense": learned,
        "rank 1": partial(learned, rank=1),
        "groups": partial(learned, optimizer=grouped),
        "generate": generated,
        "own loop": own_loop,
        "ars": partial(own_loop, make=ARS),
        "gradient": search_gradient,
        "gradient of rank 1": partial(search_gradient, rank=1),
        "many pairs": many_pairs,
        "many pairs of rank 1": partial(many_pairs, rank=1),
        "empty": empty,
        "empty, rank 1": partial(empty, rank=1),
        "keeps gradients": partial(learned, optimizer=Optimistic),
        "bfloat16": bfloat16,
    }
    on_both = {
        "pgpe": partial(learned, strategy="pgpe"),
        "resumed": partial(resumed, folder=folder),
        "two devices": two_devices,
        "two devices, rank 1": partial(two_devices, rank=1),
        "defaults": with_defaults,
    }
    differ = {name: difference(case, there=True) for name, case in cases.items()}
    differ |= {name: difference(case, there=False) for name, case in on_both.items()}
    refused = {}
    for name, options in {"env": {"env": "CartPole-v1"}, "sfc64": {"fitness_fn": nearness, "noise": "sfc64"}}.items():
        try:
            ES(network().to(DEVICE), **options)
        except ValueError as error:
            refused[name] = str(error)
    print(json.dumps({"differ": differ, "refused": refused, "told": told(folder)}))


def difference(case: Any, there: bool) -> float:
    """Return how theta differs; with `there`, all noise must be made on the device."""
    expected = case(None)
    with mock.patch.object(PhiloxNoise, "_fill_row", side_effect=AssertionError) if there else contextlib.nullcontext():
        return float((expected - case(DEVICE)).abs().max())


def told(folder: str) -> dict[str, Any]:
    """Return what a run on the device says of itself."""
    es = ES(network(), fitness_fn=nearness, device=DEVICE, num_pairs=2, eval_every=0, strategy="pgpe")
    metrics: list[dict[str, float]] = []
    es.learn(4, metrics.append, folder=folder + "-run")
    before = es.strategy.state_dict()["theta"]
    kept = before.clone()
    es.learn(4)
    return {
        "evaluator": type(es.evaluator()).__name__,
        "noise": es.described["noise"],
        "update_ratio": metrics[0]["es/update_ratio"],
        "saved theta stays": before.equal(kept),
    }


def grouped(parameters: Any) -> torch.optim.Optimizer:
    """Make groups with a sigma of their own."""
    first, *others = parameters
    return torch.optim.SGD([{"params": [first], "sigma": 0.2}, {"params": others}], lr=0.05)


if __name__ == "__main__":
    main(FOLDER)
