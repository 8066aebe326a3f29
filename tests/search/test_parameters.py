import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torch_es.search.parameters import FlatParameters, as_module, kept_buffers


class Bag(nn.Module):
    def __init__(self, shapes, dtype=torch.float32):
        super().__init__()
        self.items = nn.ParameterList([nn.Parameter(torch.randn(s).to(dtype)) for s in shapes])


@given(st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=5))
def test_write_then_gather_is_the_vector(shapes):
    parameters = FlatParameters(Bag(shapes))
    theta = torch.randn(parameters.dim)
    parameters.write_module(theta)
    assert torch.equal(parameters.read_masters(), theta)
    rebuilt = torch.cat([v.reshape(-1) for v in parameters.views(theta).values()])
    assert torch.equal(rebuilt, theta)


def test_the_initial_weights_are_the_start():
    module = nn.Linear(2, 2)
    expected = torch.cat([module.weight.detach().reshape(-1), module.bias.detach()])
    assert torch.equal(FlatParameters(module).read_masters(), expected)


def test_tied_count_once_frozen_are_left_alone():
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    module[1].bias.requires_grad_(False)
    bias = module[1].bias.clone()
    parameters = FlatParameters(module)
    parameters.write_module(torch.arange(9.0))
    assert parameters.dim == 9
    assert module[1].weight is module[0].weight
    assert torch.equal(module[1].bias, bias)


def test_non_contiguous_parameters_keep_their_layout():
    module = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    parameters = FlatParameters(module)
    theta = parameters.read_masters()
    parameters.write_module(theta + 1)
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(parameters.read_masters(), theta + 1)
    parameters.set_grad(theta.clone())
    assert torch.equal(module.weight.grad.reshape(-1), -theta[: module.weight.numel()].detach())


def test_mixed_precision_has_masters():
    module = nn.Sequential(nn.Linear(2, 2).double(), nn.Linear(2, 1).to(torch.bfloat16))
    parameters = FlatParameters(module)
    assert parameters.read_masters().dtype == torch.float64
    assert [p.dtype for p in parameters.masters] == [torch.float64] * 2 + [torch.float32] * 2
    theta = parameters.read_masters() + 1e-4
    parameters.write_all(theta)
    assert torch.allclose(parameters.read_masters(), theta, atol=1e-7)
    assert module[1].weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Tanh(), r"the module \(Tanh\) has no trainable parameters"),
        (nn.Linear(2, 2).requires_grad_(False), "has no trainable parameters"),
        (nn.Linear(2, 2, device="meta"), "`weight` must have values, and is on the meta device"),
    ],
)
def test_what_cannot_be_evolved_is_refused(module, message):
    with pytest.raises(ValueError, match=message):
        FlatParameters(module)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's own, of quantize_dynamic
def test_a_module_that_was_quantized_is_told_to_be_so_too_early():
    module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 2)), {nn.Linear})
    with pytest.raises(ValueError, match="has no trainable parameters but quantized ones; quantize it after training"):
        FlatParameters(module)


@pytest.mark.parametrize("weight", [torch.eye(2).to_sparse(), torch.eye(2).to(torch.float8_e4m3fn)])
def test_a_sparse_weight_and_one_of_8_bits_are_refused_and_may_be_frozen(weight):
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(weight, requires_grad=False)
    assert FlatParameters(module).named == {"bias": module.bias}
    module.weight.requires_grad_(True)
    with pytest.raises(TypeError, match=r"`weight` must be dense and of 16 bits at least, got .*; freeze it"):
        FlatParameters(module)


class Cache(nn.Module):
    """Puts another tensor in the place of its buffer, of another shape, and registers one more."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self):
        self.seen = torch.cat([self.seen, torch.ones(1)])
        self.register_buffer("more", torch.ones(2))
        return -(self.weight - 1).square().sum() - len(self.seen)


def test_buffers_that_were_replaced_are_put_back():
    module = Cache()
    seen = module.seen
    with kept_buffers(module):
        seen += 1
        module()
    assert module.seen is seen
    assert seen.item() == 0
    assert module.state_dict().keys() == {"weight", "seen", "more"}


class Int8Tensor(torch.Tensor):
    """A weight that says that it is float32, and keeps 8 bits, as those of torchao do."""

    @staticmethod
    def __new__(cls, whole):
        return torch.Tensor._make_wrapper_subclass(cls, whole.shape, dtype=torch.float32)

    def __init__(self, whole):
        self.whole = whole

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return Int8Tensor(args[0].whole)
        if function is torch.ops.aten.addmm.default:
            bias, x, turned = args
            return bias + x @ turned.whole
        if function is torch.ops.aten.t.default:
            return Int8Tensor(args[0].whole.float().t())
        raise NotImplementedError(function)


def test_a_quantized_weight_is_left_alone_if_it_is_frozen():
    weight = Int8Tensor(torch.full((2, 3), 5, dtype=torch.int8))
    module = nn.Linear(3, 2)
    module.weight = nn.Parameter(weight, requires_grad=False)
    with torch.no_grad():
        module.bias.zero_()
        assert module(torch.ones(1, 3)).tolist() == [[15.0, 15.0]]
    assert FlatParameters(module).named == {"bias": module.bias}
    module.weight = nn.Parameter(weight)
    with pytest.raises(TypeError, match=r"`weight` must be a plain tensor to be perturbed, got Int8Tensor, .* freeze"):
        FlatParameters(module)


def test_non_finite_and_complex_parameters_are_refused():
    module = nn.Linear(2, 2)
    module.bias.data[1] = float("nan")
    with pytest.raises(ValueError, match="`bias` must be finite"):
        FlatParameters(module)
    with pytest.raises(TypeError, match="must be real floating point"):
        FlatParameters(Bag([(2,)], torch.complex64))


def test_targets_are_modules_or_float_tensors():
    with pytest.raises(TypeError, match=r"`target` must be a torch\.nn\.Module or a tensor, got list"):
        as_module([1.0])
    with pytest.raises(TypeError, match=r"got torch.int64; call `.float\(\)`"):
        as_module(torch.zeros(3, dtype=torch.int64))


def test_a_buffer_that_is_an_expanded_view_is_put_back_where_nothing_changed():
    module = nn.Linear(2, 1)
    module.register_buffer("mask", torch.ones(1, 2).expand(3, 2))
    with kept_buffers(module):
        module(torch.zeros(1, 2))
    assert module.mask.equal(torch.ones(3, 2))


def test_two_parameters_in_the_same_memory_are_refused():
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3))
    network[1].weight = nn.Parameter(network[0].weight.t())
    with pytest.raises(ValueError, match=r"`0.weight` and `1.weight` must not be two parameters in the same memory"):
        FlatParameters(network)
    network[1].weight.requires_grad_(False)
    assert FlatParameters(network).dim == 11
