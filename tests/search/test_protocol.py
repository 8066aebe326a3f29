import numpy as np
import pytest
import torch

from torch_es.search.protocol import Outcome, as_outcome, as_pairs


@pytest.mark.parametrize("shape", [(2, 3), (0, 2), (0,), (2, 2, 1)])
def test_fitness_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"`returns` must have shape \(num_pairs, 2\)"):
        as_outcome(np.zeros(shape))


def test_pairs_need_an_even_number_of_members():
    with pytest.raises(ValueError, match=r"`returns` must have shape \(num_pairs, 2\), .* got \(3,\)"):
        as_pairs(as_outcome([1.0, 2.0, 3.0]).fitness)


def test_an_outcome_is_taken_as_it_is():
    outcome = Outcome(np.zeros(3))
    assert as_outcome(outcome) is outcome


def test_tensors_of_low_precision_or_with_a_gradient_are_numbers_too():
    told = torch.tensor([1.0, 2.0])
    for given in (told.bfloat16(), told.requires_grad_() * 1, list(told.detach().bfloat16())):
        assert as_outcome(given).fitness.tolist() == [1.0, 2.0]
