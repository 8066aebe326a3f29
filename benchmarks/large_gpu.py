"""Members of a language model that generate and score: several in one call, beside one by one.

    .venv/bin/python benchmarks/large_gpu.py                         # 0.5B parameters on a GPU, 3M on a CPU
    .venv/bin/python benchmarks/large_gpu.py --members 8 --pairs 1   # with less memory, or less time

The model is a Qwen2 with random weights, from a config; nothing is downloaded. A whole generation is timed: noise,
generating, scoring, and the step. Both sides of a comparison have as many members. On a GPU it also says whether the
noise has the bits that it has on the CPU.
Takes 199 s on an H200. The rows are written to benchmarks/results/large_gpu_cuda.json, or _cpu.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from pairs import Row, Side, alternate, publish
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from torch_es import ES, BatchFitness
from torch_es.nn.buffers import digest
from torch_es.search.noise import room
from torch_es.search.philox import PhiloxNoise

SIZES = {  # of Qwen2.5-0.5B, and one that a CPU plays in seconds
    "cuda": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "vocab_size": 151_936},
    "cpu": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 1000},
}  # fmt: skip
PROMPTS, PROMPT, NEW = 8, 16, 32  # prompts of a batch, tokens of a prompt, tokens of an answer
MORE = 4  # times as many members, for a comparison with plain inference only


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--members", type=int, default=16, help="of a generation")
    parser.add_argument("--pairs", type=int, default=2, help="of measurements")
    given = parser.parse_args()
    kind = given.device.partition(":")[0]
    name = {"cuda": torch.cuda.get_device_name, "cpu": lambda _: "CPU, 1 thread"}.get(kind, str)(given.device)
    if kind == "cpu":
        torch.set_num_threads(1)
    digests = {device: noise_digest(device) for device in {"cpu", given.device}}
    print(f"noise: {digests}", flush=True)
    if len(set(digests.values())) != 1:
        raise SystemExit("The noise has other bits on this device.")
    model = transformer(kind).to(given.device)
    parameters = sum(p.numel() for p in model.parameters())
    what = f"{name}/{parameters / 1e6:,.0f}M parameters, {PROMPTS} prompts of {PROMPT} + {NEW} tokens"
    command = " ".join(("python benchmarks/large_gpu.py", *sys.argv[1:]))
    tell = partial(publish, file=f"large_gpu_{kind}.json", command=command)
    if kind == "cuda":
        tell([memory(what, model)])  # first, while the sides hold nothing
    for members in (given.members, given.members * MORE):
        together = evolving(model, members, members_per_call=members, rank=1)
        others = {"plain inference": inference(model, members)}
        if members == given.members:
            others["one by one"] = evolving(model, members, members_per_call=1, rank=1)
            others["one by one with dense noise"] = evolving(model, members, members_per_call=1, rank=None)
        for other, side in others.items():
            compared = f"{what}/{members} members in one call, over {other}"
            tell([alternate(compared, [(together, side)] * given.pairs, "tokens/s", "")])


def noise_digest(device: str) -> str:
    """Return a digest of noise that was drawn on a device."""
    out = room(3, 100_003, device)
    PhiloxNoise(0, 1_000_000).fill(out, 7, [0, 5, 2**40], start=77)
    return digest({"noise": out})


def transformer(kind: str) -> nn.Module:
    torch.manual_seed(0)
    config = Qwen2Config(
        **SIZES["cpu" if kind == "cpu" else "cuda"], tie_word_embeddings=True, bos_token_id=None, eos_token_id=None
    )
    return Qwen2ForCausalLM(config).eval().to(torch.bfloat16 if kind == "cuda" else torch.float32)


def prompts(generation: int, vocabulary: int) -> Tensor:
    return torch.randint(vocabulary, (PROMPTS, PROMPT), generator=torch.Generator().manual_seed(generation))


def answers(model: nn.Module, rows: Tensor) -> Tensor:
    rows = rows.to(model.device)
    mask = torch.ones_like(rows)
    tokens = model.generate(rows, attention_mask=mask, min_new_tokens=NEW, max_new_tokens=NEW, do_sample=False)
    return tokens[:, PROMPT:]


def scores(model: nn.Module, batch: Tensor, members: int) -> Tensor:
    """Return the share of even tokens in each answer, `(members, prompts)`."""
    even = answers(model, batch.repeat(members, 1)) % 2 == 0
    return even.float().mean(1).view(members, -1).squeeze(0)


def evolving(model: nn.Module, members: int, members_per_call: int, rank: int | None) -> Side:
    """Return a function that evolves for a generation and returns its tokens a second."""
    batches = partial(prompts, vocabulary=model.config.vocab_size)
    fitness = BatchFitness(partial(scores, members=members_per_call), batches, members_per_call)
    sgd = partial(torch.optim.SGD, lr=1e-4)
    options = {"num_pairs": members // 2, "sigma": 1e-3, "rank": rank, "optimizer": sgd, "noise": "philox"}
    es = ES(model, fitness_fn=fitness, num_workers=0, eval_every=0, **options)
    return warm(model, members, partial(es.learn, members))


def inference(model: nn.Module, members: int) -> Side:
    """Return a function that answers for as many rows by the model itself, and returns the tokens a second."""
    rows = prompts(0, model.config.vocab_size).repeat(members, 1)
    return warm(model, members, torch.no_grad()(partial(answers, model, rows)))


def warm(model: nn.Module, members: int, work: Callable[[], object]) -> Side:
    """Return the work as one side; it has run once, since the first call prepares things."""
    work()

    def side() -> float:
        start = time.perf_counter()
        work()
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return members * PROMPTS * NEW / (time.perf_counter() - start)

    return side


def memory(what: str, model: nn.Module) -> Row:
    """Return the peak of the GPU's memory in a generation of one member at a time, beside the module."""
    held = sum(p.nbytes for p in model.parameters())
    torch.cuda.reset_peak_memory_stats()
    evolving(model, 2, members_per_call=1, rank=1)
    peak = torch.cuda.max_memory_allocated()
    return Row(f"{what}/memory of the GPU, over the module", peak / 2**20, held / 2**20, peak / held, "MiB", 1, "")


if __name__ == "__main__":
    main()
