import torch

from torch_es.nn.buffers import Constants


def test_constants_follow_a_copy_to_an_empty_device():
    module = Constants()
    module.register_buffer("bound", torch.ones(3))
    assert module.to("meta").to_empty(device="cpu").bound.device.type == "cpu"


def test_constants_keep_their_digits_when_a_network_is_halved():
    module = Constants()
    module.register_buffer("bound", torch.full((1,), 0.4, dtype=torch.float64))
    assert module.half().bound.item() == 0.4
