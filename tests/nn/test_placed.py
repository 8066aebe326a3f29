import pytest
import torch
from torch import nn

from torch_es.nn.placed import placed


def test_a_module_stays_itself_and_a_function_is_called():
    module = nn.Linear(2, 1)
    assert placed(module) is module
    assert placed(module, "cpu") is module
    assert isinstance(placed(lambda: nn.Tanh()), nn.Tanh)


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"`policy` must be a torch.nn.Module, got int\."):
        placed(3)
    with pytest.raises(TypeError, match=r"`policy` must be a torch.nn.Module, or make one, but it made str\."):
        placed(lambda: "module")

    with pytest.raises(TypeError, match=r"got the class Linear; make one of it\."):
        placed(nn.Linear)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("device", "why"), [("cuda", "CUDA"), ("nonsense", "nonsense"), (5, "accelerator")])
def test_a_device_that_is_not_there_is_named(device, why):
    with pytest.raises(ValueError, match=f"`device` '{device}' cannot be used: .*{why}"):
        placed(nn.Linear(2, 1), device)


@pytest.mark.parametrize("device", [3.5, torch.float16])
def test_what_names_no_device_is_refused(device):
    with pytest.raises(TypeError, match=f"`device` must be a name such as 'cuda:0', or a torch.device, got {device}"):
        placed(nn.Linear(2, 1), device)


def test_weights_are_not_lost():
    module = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="`device` must hold values, got 'meta'"):
        placed(module, "meta")
    assert module.weight.is_cpu


def test_what_acts_in_an_environment_stays_on_the_cpu():
    assert placed(nn.Linear(2, 1), "cpu", acts=True).weight.is_cpu
    with pytest.raises(
        ValueError, match="`device` must be cpu or left out with `env`, got cuda: environments are played on"
    ):
        placed(nn.Linear(2, 1), "cuda", acts=True)
    with pytest.raises(ValueError, match="`weight` must be on the CPU, where the workers play, got meta"):
        placed(nn.Linear(2, 1, device="meta"), acts=True)
