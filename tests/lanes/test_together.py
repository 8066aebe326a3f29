"""Several members in one call answer as the module does with each member's weights written into it."""

import copy
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from torch_es.lanes.interception import Interception
from torch_es.lanes.together import Together
from torch_es.search.low_rank import LowRank, factored
from torch_es.search.parameters import FlatParameters

K = 3
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _played():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


class Custom(nn.Module):
    """An RMS norm as Llama has it, and with `gemma` as Gemma has it."""

    def __init__(self, gemma=False):
        super().__init__()
        self.weight, self.gemma = nn.Parameter(torch.randn(6)), gemma

    def forward(self, x):
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return x * (1.0 + self.weight.float()).type_as(x) if self.gemma else self.weight * x.to(self.weight.dtype)


class Words(nn.Module):
    """An embedding whose table is the last matrix too, in one of three ways; positions have no batch."""

    def __init__(self, way):
        super().__init__()
        self.table, self.positions, self.way = nn.Embedding(9, 6), nn.Embedding(12, 6), way
        self.head = nn.Linear(6, 9, bias=False)
        if way == "tied":
            self.head.weight = self.table.weight

    def forward(self, x):
        h = self.table(x) + self.positions(torch.arange(x.shape[1]))
        if self.way == "functional":
            return F.linear(h, self.table.weight)
        return h @ self.table.weight.T if self.way == "product" else self.head(h)


class Channels(nn.Module):
    """A norm over channels as ConvNeXt has it, a scale of its own, and a table of positions that is cut."""

    def __init__(self):
        super().__init__()
        self.weight, self.positions = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(1, 7, 5))
        self.conv = nn.Conv1d(4, 4, 1)

    def forward(self, x):
        return self.conv(x)[:, :, :5] * self.weight[:, None] + self.positions[:, :4]


class Marked(nn.Module):
    """A token of its own before the others, as ViT has it."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 6))

    def forward(self, x):
        return torch.cat([self.token.expand(len(x), -1, -1), self.token.expand((len(x), 2, 6)), x], 1)


class Flat(nn.Module):
    """A part gets all tokens in one dimension, and another is a function with names."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 5)

    def forward(self, x):
        h = self.inner(x.flatten(0, 1)).view(x.shape)
        return F.linear(input=h, weight=self.outer.weight, bias=self.outer.bias)


class Scaled(nn.Embedding):
    """As Gemma has it."""

    def forward(self, x):
        return 3.0 * super().forward(x)


def floats(*shape):
    return lambda: torch.randn(2, *shape)


def tokens():
    return torch.randint(9, (2, 6))  # as many as all rows of three members


def ln_matrix():
    return nn.LayerNorm((4, 6))


MODULES = {
    "linear": (lambda: nn.Linear(6, 5), floats(6)),
    "linear, 3-D": (lambda: nn.Linear(6, 5, bias=False), floats(4, 6)),
    "linear, dense": (lambda: nn.Linear(6, 1), floats(4, 6)),
    "linear, 4-D": (lambda: nn.Linear(6, 5), floats(3, 4, 6)),
    "bias alone": (lambda: without(nn.Linear(6, 5), "weight"), floats(6)),
    "weight alone": (lambda: without(nn.Linear(6, 5), "bias"), floats(6)),
    "frozen": (lambda: nn.Sequential(nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 5)), floats(6)),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)), floats(4, 6)),
    "layer norm, matrix": (ln_matrix, floats(4, 6)),
    "rms norm": (lambda: nn.Sequential(nn.Linear(6, 6), nn.RMSNorm(6)), floats(4, 6)),
    "rms norm, Llama": (lambda: nn.Sequential(nn.Linear(6, 6), Custom()), floats(4, 6)),
    "rms norm, Gemma": (lambda: nn.Sequential(nn.Linear(6, 6), Custom(gemma=True)), floats(4, 6)),
    "group norm": (lambda: nn.Sequential(nn.Conv1d(4, 6, 1), nn.GroupNorm(2, 6)), floats(4, 5)),
    "batch norm": (lambda: nn.Sequential(nn.Conv1d(4, 6, 1), nn.BatchNorm1d(6)), floats(4, 5)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3, padding=1), floats(4, 6)),
    "conv1d, groups": (lambda: nn.Sequential(nn.Conv1d(4, 8, 3, groups=2), nn.Conv1d(8, 8, 2, groups=8)), floats(4, 6)),
    "conv2d": (lambda: nn.Sequential(nn.Conv2d(2, 6, 2, stride=2), nn.ReLU(), nn.Conv2d(6, 4, 1)), floats(2, 6, 4)),
    "conv2d, same": (lambda: nn.Conv2d(3, 6, 3, padding="same", bias=False), floats(3, 6, 4)),
    "flat": (Flat, floats(4, 6)),
    "token": (lambda: nn.Sequential(Marked(), nn.Linear(6, 5)), floats(4, 6)),
    "channels": (Channels, floats(4, 7)),
    "embedding": (lambda: nn.Embedding(9, 6), tokens),
    "embedding, dense": (lambda: nn.Embedding(9, 1), tokens),
    "embedding, scaled": (lambda: Scaled(9, 6), tokens),
    "embedding, one a row": (lambda: nn.Embedding(9, 6), lambda: torch.randint(9, (2,))),
    "tied": (lambda: Words("tied"), tokens),
    "untied": (lambda: Words("untied"), tokens),
    "tied by a function": (lambda: Words("functional"), tokens),
    "tied by a product": (lambda: Words("product"), tokens),
    "Llama": (lambda: Logits(llama()), tokens),
    "Llama, untied": (lambda: Logits(llama(tie_word_embeddings=False, attention_bias=True)), tokens),
    "GPT-2": (lambda: Logits(gpt2()), tokens),
}


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).logits


def without(module, name):
    getattr(module, name).requires_grad_(False)
    return module


def llama(**options):
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    options = {"tie_word_embeddings": True, **options}
    config = LlamaConfig(
        vocab_size=20, **sizes, num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0, pad_token_id=0, **options,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def gpt2():
    config = GPT2Config(
        vocab_size=20, n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def together(module, rank=1, sigma=0.3):
    """Return it with members -1 (the centre), 0 and 1, and a function that makes the module one of them."""
    parameters = FlatParameters(module)
    parts, theta = factored(parameters, rank), parameters.read_masters()
    noise = LowRank(0, 0, len(theta), sigma, parts)
    found = Together(module, parts, K)
    found.write(noise.draws(range(-1, K - 1), CPU))

    def become(slot):
        vector = theta if slot is None or slot == 0 else noise.member(theta, slot - 1, torch.empty_like(theta))
        parameters.write_module(vector)

    return found, become


def assert_as_alone(found, become, x):
    with found:
        answers = found.module(x.repeat(K, 1)).view(K, 2, 5)
    for slot in range(K):
        become(slot)
        assert torch.allclose(answers[slot], found.module(x), atol=1e-6)


def bits(module):
    return [x.clone() for x in (*module.parameters(), *module.buffers())]


def hooks(module):
    return [h for m in module.modules() for h in (m._forward_hooks, m._forward_pre_hooks) if h]


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(("module", "rows"), MODULES.values(), ids=MODULES)
def test_the_members_answer_as_each_alone(module, rows, rank):
    module = module().eval()
    batch = [torch.cat([rows() for _ in range(p)]) for p in (1, 2)]  # two and four rows for each
    found, become = together(module, rank)
    before = bits(module)
    with found:
        answers = [module(torch.cat([x + 0 * slot for slot in range(K)])) for x in batch]
    assert all(torch.equal(a, b) for a, b in zip(before, bits(module), strict=True))
    assert not hooks(module)
    alone = []
    for slot in range(K):
        become(slot)
        alone.append([module(x) for x in batch])
    for number, answer in enumerate(answers):
        expected = torch.cat([one[number] for one in alone])
        torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(expected[: len(batch[number])], expected[-len(batch[number]) :], atol=1e-2)


def test_each_member_may_have_rows_of_its_own():
    module = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 5))
    found, become = together(module)
    x = torch.randn(K * 4, 6)
    with found:
        answers = module(x)
    for slot in range(K):
        become(slot)
        torch.testing.assert_close(answers[slot * 4 : slot * 4 + 4], module(x[slot * 4 : slot * 4 + 4]))


def test_a_part_of_the_module_may_be_called_alone():
    """GPT-2 gives its table of positions one row for all."""
    module = nn.ModuleDict({"model": gpt2(), "other": nn.Linear(6, 5)})
    found, become = together(module)
    x = tokens()
    with found:
        answers = module["model"](x.repeat(K, 1)).logits
        assert module["other"](torch.randn(K, 6)).shape == (K, 5)
    become(2)
    torch.testing.assert_close(answers[4:], module["model"](x).logits, rtol=1e-3, atol=1e-4)


def test_the_centre_may_move_and_the_members_change():
    module = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 5))
    found, _ = together(module)
    x = torch.randn(2, 6)
    for p in module.parameters():
        p.add_(0.5)
    noise = LowRank(1, 7, FlatParameters(module).dim, 0.1, found.parts)
    theta = FlatParameters(module).read_masters()
    found.write(noise.draws(range(4, K + 4), CPU))
    with found:
        answers = module(x.repeat(K, 1))
    FlatParameters(module).write_module(noise.member(theta, 6, torch.empty_like(theta)))
    torch.testing.assert_close(answers[4:], module(x))


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("padded", [False, True])
def test_greedy_tokens_with_a_cache_are_those_of_each_alone(make, padded):
    module = make()
    prompts = torch.randint(1, 20, (4, 5))
    mask = torch.ones_like(prompts)
    if padded:
        mask[0, :2] = mask[2, :3] = 0
        prompts[mask == 0] = 0

    def generate(members):
        return module.generate(
            prompts.repeat(members, 1), attention_mask=mask.repeat(members, 1), do_sample=False, max_new_tokens=8,
            min_new_tokens=8,
        )  # fmt: skip

    found, become = together(module)
    with found:
        tokens = generate(K)
    alone = []
    for slot in range(K):
        become(slot)
        alone.append(generate(1))
    assert torch.equal(tokens, torch.cat(alone))
    assert len({tuple(one.flatten().tolist()) for one in alone}) == K


@pytest.mark.parametrize("make", [lambda: Logits(llama()), lambda: Logits(gpt2())])
def test_in_bfloat16_they_answer_in_bfloat16(make):
    module = make().bfloat16()
    found, become = together(module, sigma=0.1)
    x = tokens()
    with found:
        answers = module(x.repeat(K, 1))
    assert answers.dtype == torch.bfloat16
    become(2)
    expected = module(x)
    become(0)
    off = (expected - module(x)).abs().mean()
    assert (answers[4:] - expected).abs().mean() < 0.15 * off


def test_after_an_exception_the_module_is_as_before():
    module = nn.Sequential(nn.Linear(6, 6), Custom(), nn.Dropout(0.0), nn.Linear(6, 5))
    found, _ = together(module)
    before, x = bits(module), torch.randn(2, 6)
    answer = module(x)
    with found:
        with pytest.raises(RuntimeError, match=r"cannot be multiplied"):
            module(torch.randn(6, 5))
        assert module(torch.randn(K, 6)).shape == (K, 5)  # rows of the call that failed are forgotten
    with pytest.raises(RuntimeError, match=r"cannot be multiplied"), found:
        module(torch.randn(6, 5))
    assert not hooks(module)
    assert all(torch.equal(a, b) for a, b in zip(before, bits(module), strict=True))
    assert torch.equal(module(x), answer)


def test_nothing_that_was_made_of_parameters_is_kept():
    found, _ = together(nn.Linear(6, 5))
    with found:
        made = weakref.ref(found.module.weight.T)
        assert made() is None
        found.module(torch.randn(6, 6))
        kept = weakref.ref(found.module.weight._members_have[1].transposed().value)
        assert kept() is not None
    assert kept() is None
    assert type(found.module.weight) is nn.Parameter
    assert not vars(found.module.weight)


class Keeps(nn.Module):
    """Keeps what it made of its weight in its first call."""

    def __init__(self):
        super().__init__()
        self.weight, self.turned = nn.Parameter(torch.randn(5, 6)), None

    def forward(self, x):
        if self.turned is None:
            self.turned = self.weight.t()
        return x @ self.turned


@pytest.mark.parametrize("module", [nn.Linear(6, 5, bias=False), Keeps()], ids=["in a thread", "kept from a call"])
def test_members_differ_wherever_a_parameter_is_used(module):
    found, _ = together(module)
    x = torch.randn(2, 6).repeat(K, 1)
    with found, ThreadPoolExecutor(1) as pool:
        first = pool.submit(torch.no_grad()(module), x).result()
        again = module(x)
    assert not torch.allclose(first[:2], first[2:4])
    assert torch.equal(first, again)


def test_what_a_module_keeps_of_other_members_is_refused():
    module = Keeps()
    found, _ = together(module)
    x = torch.randn(2, 6).repeat(K, 1)
    with found:
        first = module(x)
    with found, pytest.raises(ValueError, match=r"`weight` is used by what the module keeps from an earlier call"):
        module(x)
    assert torch.allclose(module(x)[:2], first[:2])  # outside it is the centre's, as the module kept it


class Hides(nn.Module):
    """Gives a parameter where torch takes numbers, or in a place that it does not look at."""

    def __init__(self, use, *shape):
        super().__init__()
        self.own, self.use, self.linear = nn.Parameter(torch.full(shape, 0.5)), use, nn.Linear(6, 6)

    def forward(self, x):
        return self.use(self.linear(x), self.own)


@pytest.mark.parametrize(
    ("use", "shape"),
    [
        (lambda x, w: F.elu(x, w.exp()), ()),
        (lambda x, w: F.softplus(x, w.exp()), ()),
        (lambda x, w: torch.add(x, x, alpha=w * 2), ()),
        (lambda x, w: x * torch.full_like(x, w.exp()), ()),
        (lambda x, w: x * torch.tensor(w), (6,)),
        (lambda x, w: x * torch.as_tensor(w, dtype=torch.float64), (6,)),
        (lambda x, w: x * x.new_tensor(w), (6,)),
    ],
    ids=["elu", "softplus", "alpha", "full_like", "tensor", "as_tensor", "new_tensor"],
)
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor", "ignore:Converting a tensor")
def test_a_parameter_where_torch_would_not_ask_for_it_is_refused(use, shape):
    module = Hides(use, *shape)
    found, _ = together(module)
    with found, pytest.raises(ValueError, match=r"`own` is used by .* in a way that has no rule"):
        module(torch.randn(2, 6).repeat(K, 1))


def test_members_answer_under_autocast():
    module = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 5))
    found, become = together(module)
    rows = torch.randint(9, (4,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with found:
            answers = module(rows.repeat(K)).view(K, 4, 5)
        for slot in range(K):
            become(slot)
            assert torch.allclose(answers[slot].float(), module(rows).float(), atol=0.05)
    assert answers.dtype == torch.bfloat16


@pytest.mark.parametrize("compiled", [lambda m: m, lambda m: torch.compile(m, backend="eager")], ids=["no", "yes"])
def test_a_compiled_layer_answers_for_all_members(compiled):
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh())
    found, become = together(module)
    module[0] = compiled(module[0])
    x = torch.randn(2, 6)
    module(x)
    assert_as_alone(found, become, x)


def test_an_error_before_it_is_entered_is_not_counted():
    found, _ = together(nn.Linear(6, 5))
    found.write(torch.zeros(K, 3))  # too few draws
    with pytest.raises(RuntimeError, match="unflatten"):
        found.__enter__()
    assert Interception.num_active == 0


def test_an_error_on_the_way_in_leaves_nothing_behind():
    class Stubborn(nn.Parameter):
        def __init_subclass__(cls, needed, **_):
            pass

    module = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    found, _ = together(module)
    module[1].weight.__class__ = Stubborn
    with pytest.raises(TypeError, match="needed"):
        found.__enter__()
    assert type(module[0].weight) is nn.Parameter
    assert not hooks(module)
    module[1].weight.__class__ = nn.Parameter
    with found:
        assert module(torch.randn(K, 6)).shape == (K, 4)


def test_a_bias_that_is_a_row():
    class Row(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(1, 5))

        def forward(self, x):
            return torch.addmm(self.bias, x, self.weight)

    module = Row()
    found, become = together(module)
    x = torch.randn(2, 6)
    assert_as_alone(found, become, x)


def test_a_tensor_made_with_the_class_of_a_parameter_is_an_ordinary_one():
    found, _ = together(nn.Linear(6, 5))
    with found:
        assert float(type(found.module.weight)(torch.ones(2)).sum()) == 2.0


def test_a_copy_of_the_module_is_refused_since_it_would_be_the_centre():
    found, _ = together(nn.Linear(6, 5))
    with found, pytest.raises(ValueError, match=r"`weight` is used by .* in a way that has no rule"):
        copy.deepcopy(found.module)


def test_two_at_once_are_refused():
    (one, _), (other, _) = together(nn.Linear(6, 5)), together(nn.Linear(6, 5))
    with one, other:
        pass
    other.module.weight = one.module.weight
    other = together(other.module)[0]
    with one, pytest.raises(RuntimeError, match="its module is in another one"), other:
        pass
    assert type(one.module.weight) is nn.Parameter
    assert not hooks(other.module)


def test_it_is_not_entered_twice():
    found, _ = together(nn.Linear(6, 5))
    with found, pytest.raises(RuntimeError, match="must not be entered while its module is in another one"):
        found.__enter__()
    with found:
        assert found.module(torch.randn(6, 6)).shape == (6, 5)


class Own(nn.Module):
    """Parameters of its own in an operation that a function makes."""

    def __init__(self, operation):
        super().__init__()
        self.matrix, self.vector = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(6))
        self.column, self.operation = nn.Parameter(torch.randn(6, 1)), operation

    def forward(self, x):
        return self.operation(self, x)


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda m, x: x @ m.matrix.exp(), "matrix.*Tensor.exp"),
        (lambda m, x: x @ m.matrix[:, :2], "matrix.*__getitem__"),
        (lambda m, x: x @ (m.matrix * 2.0), "matrix.*mul"),
        (lambda m, x: x @ m.matrix.transpose(1, 1), "matrix.*transpose"),
        (lambda m, x: torch.addmm(torch.ones(5), x, m.matrix, beta=0.5), "matrix.*addmm"),
        (lambda m, x: F.embedding(x[:, 0].long(), m.matrix, max_norm=1.0), "matrix.*embedding"),
        (lambda m, x: F.linear(m.vector, m.matrix.T), "vector.*linear"),
        (lambda m, x: x * m.column, "column.*mul"),
        (lambda m, x: x * (m.column * m.vector), "column.*mul"),
        (lambda m, x: torch.einsum("bi,ij->bj", x, m.matrix), "matrix.*einsum"),
        (lambda m, x: x @ m.matrix.detach(), "matrix.*detach"),
        (lambda m, x: x @ m.matrix.data, "matrix.*data"),
        (lambda m, x: x * m.vector.sum(), "vector.*sum"),
        (lambda m, x: x * m.vector.expand(6, 6), "vector.*expand"),
        (lambda m, x: x * float(m.vector[0]), "vector.*__float__|vector.*item"),
        (lambda m, x: torch.cat([x, m.vector[None]]), "vector.*cat"),
        (lambda m, x: m.vector.add_(1.0) * x, "vector.*add_"),
        (lambda m, x: torch.mul(m.vector, x, out=torch.empty_like(x)), "vector.*mul"),
        (lambda m, x: m.vector + torch.ones(6), "vector.*add"),
        (lambda m, x: F.layer_norm(m.vector, (6,)), "vector.*layer_norm"),
        (lambda m, x: F.batch_norm(x, None, None, m.vector, training=True), "vector.*batch_norm"),
    ],
)  # fmt: skip
def test_an_operation_without_a_rule_is_refused_and_changes_nothing(operation, name):
    module = Own(operation)
    found, _ = together(module)
    before = bits(module)
    with pytest.raises(ValueError, match=f"`{name}.*members_per_call=1"), found:
        module(torch.randn(K * 2, 6))
    assert all(torch.equal(a, b) for a, b in zip(before, bits(module), strict=True))
    with found:  # of what the rule is missing for, shape and type may be asked
        assert module.matrix.shape == (6, 5)
        assert module.matrix.device.type == "cpu"
        assert hash(module.matrix) == hash(module.matrix)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.GRU(6, 6),
        lambda: nn.LSTMCell(6, 6),
        lambda: nn.MultiheadAttention(6, 2),
        lambda: torch.jit.script(nn.Linear(6, 5)),
    ],
)
def test_layers_that_read_their_weights_in_c_are_refused_at_once(layer):
    module = nn.Sequential(nn.Linear(6, 6), layer())
    parts = factored(FlatParameters(module), 1)
    with pytest.raises(ValueError, match=r"`1`.*no rule for several members at once.*members_per_call=1"):
        Together(module, parts, K)
    for p in module[1].parameters():
        p.requires_grad_(False)
    assert Together(module, factored(FlatParameters(module), 1), K).members == K


def test_rows_that_are_not_those_of_all_members_are_refused():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 5)

        def forward(self, x):
            return self.linear(x[1:])

    found, _ = together(nn.Linear(6, 5))
    with found, pytest.raises(ValueError, match=r"all 3 members, members first, got 4 rows.*x\.repeat\(3, 1\)"):
        found.module(torch.randn(4, 6))
    mixed, _ = together(Mixed())
    with mixed, pytest.raises(ValueError, match=r"keep the rows of all 3 members first, 6 in this call"):
        mixed.module(torch.randn(6, 6))


def test_members_is_a_positive_number():
    module = nn.Linear(6, 5)
    with pytest.raises(ValueError, match="`members` must be"):
        Together(module, factored(FlatParameters(module), 1), 0)


class Centred(nn.Module):
    """A row's answer depends on the others."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, x):
        y = self.linear(x)
        return y - y.mean(0)


def test_verify_finds_answers_that_differ():
    x = torch.randn(2, 6)

    def call(module, members):
        return {"rows": [module(x.repeat(members, 1))]}

    for module, passes in ((nn.Linear(6, 5), True), (Centred(), False)):
        found, _ = together(module)
        before = bits(module)
        if passes:
            found.verify(call)
        else:
            with pytest.raises(ValueError, match=r"`module` \(Centred\).*member \d of 3 gets other answers"):
                found.verify(call)
        assert all(torch.equal(a, b) for a, b in zip(before, bits(module), strict=True))
        assert not hooks(module)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_verify_reads_what_transformers_answer_with(make):
    found, _ = together(make())
    x = tokens()
    found.verify(lambda module, members: module(x.repeat(members, 1)))
    found.verify(lambda module, members: module(x.repeat(members, 1)).logits.argmax(-1))


@pytest.mark.parametrize(
    "call",
    [
        lambda module, members: module(torch.ones(2 * members, 6))[:2],
        lambda module, members: [module(torch.ones(members, 6))] * (1 + (members > 1)),
        lambda module, members: module(torch.ones(members, 6))[:, None] if members > 1 else module(torch.ones(1, 6)),
    ],
)
def test_verify_wants_the_rows_of_all_members(call):
    found, _ = together(nn.Linear(6, 5))
    with pytest.raises(ValueError, match="gets other answers"):
        found.verify(call)


class Positions(nn.Module):
    """Looks positions up as a vector, and gives the table's answer a first dimension if it is told to."""

    def __init__(self, first):
        super().__init__()
        self.tokens, self.positions, self.out = nn.Embedding(9, 6), nn.Embedding(8, 6), nn.Linear(6, 3)
        self.first = first

    def forward(self, batch):
        ids = batch["ids"] if isinstance(batch, dict) else batch
        positions = self.positions(torch.arange(ids.shape[1]))
        return self.out(self.tokens(ids) + (positions[None] if self.first else positions))


@pytest.mark.parametrize("wrap", [lambda ids: ids, lambda ids: {"ids": ids}], ids=["tensor", "dict"])
def test_the_rows_are_found_in_a_dict_too(wrap):
    module = Positions(first=False)
    found, become = together(module)
    ids = torch.randint(9, (4, 2 * K))  # positions might be rows of the members, by their number
    with found:
        answers = module(wrap(ids.repeat(K, 1))).view(K, 4, 2 * K, 3)
    for slot in range(K):
        become(slot)
        assert torch.allclose(answers[slot], module(wrap(ids)), atol=1e-5)


def test_positions_that_get_a_first_dimension_after_the_look_up_are_refused():
    module = Positions(first=True)
    found, _ = together(module)
    with found, pytest.raises(ValueError, match=r"a table of positions has answered .* look up `positions\[None\]`"):
        module(torch.randint(9, (4, 5)).repeat(K, 1))


class LookedUp(nn.Module):
    """Looks up one index for each row, or one for all."""

    def __init__(self, index):
        super().__init__()
        self.table, self.index = nn.Embedding(9, 6), index

    def forward(self, x):
        return self.table(self.index(x))


@pytest.mark.parametrize("index", [lambda x: x[:, -1], lambda x: torch.tensor([2])], ids=["of rows", "of all"])
def test_indices_that_may_be_rows_or_positions_are_refused(index):
    found, _ = together(LookedUp(index))
    ids = torch.randint(9, (4, 5))
    with (
        found,
        pytest.raises(ValueError, match=r"`table.weight` is looked up by indices of shape \(\d+,\), .* `\[:, 0\]`"),
    ):
        found.module(ids.repeat(K, 1))
    way_out, become = together(LookedUp(lambda x: index(x)[:, None]))
    with way_out:
        answers = way_out.module(ids.repeat(K, 1))[:, 0].view(K, 4, 6)
    for slot in range(K):
        become(slot)
        assert torch.allclose(answers[slot], way_out.module(ids)[:, 0].expand(4, 6), atol=1e-5)


class OneRow(Positions):
    def forward(self, ids):
        return self.positions(torch.arange(ids.shape[1]))[None]


def test_an_answer_without_the_rows_of_all_members_is_refused():
    found, _ = together(OneRow(first=True))
    with (
        found,
        pytest.raises(ValueError, match=r"must answer with the rows of all .* a OneRow answers \(1, \d+, 5, 6\)"),
    ):
        found.module(torch.randint(9, (4, 5)).repeat(K, 1))


def test_under_autocast_a_look_up_and_a_norm_round_as_they_do_alone():
    for module, rows in ((nn.Embedding(9, 6), torch.randint(9, (4,))), (nn.LayerNorm(6), torch.randn(4, 6))):
        found, become = together(module)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with found:
                answers = module(rows.repeat(K, *[1] * (rows.dim() - 1))).view(K, 4, 6)
            for slot in range(K):
                become(slot)
                alone = module(rows)
                assert answers.dtype == alone.dtype
                assert torch.allclose(answers[slot], alone, atol=1e-6)


class Table(nn.Module):
    """A table of its own beside the rows: scales of frozen weights, or positions that a layer answers for."""

    def __init__(self, scales):
        super().__init__()
        self.scales, self.scale, self.out = scales, nn.Parameter(torch.ones(6)), nn.Linear(6, 6)
        self.register_buffer("table", torch.randn(K * 2, 6))

    def forward(self, x):
        if self.scales:
            return F.linear(x, self.table * self.scale)
        return x + self.out(self.table).mean(0)


@pytest.mark.parametrize("scales", [True, False])
def test_a_table_of_the_module_is_not_taken_for_rows(scales):
    found, _ = together(Table(scales))
    with found, pytest.raises(ValueError, match=r"a buffer or a frozen parameter of the module, \(6, 6\)"):
        found.module(torch.randn(K * 2, 6))
