import numpy as np
import torch

from torch_es.nn import ObservationNorm
from torch_es.nn.moments import Moments


def test_observations_are_normalised_cut_and_floored():
    norm = ObservationNorm(3)
    norm.update(Moments.of(np.array([[0.0, 5.0, 0.0], [2.0, 5.0, 0.02]])))
    out = norm(torch.tensor([1.0, 5.4, 100.0]))
    np.testing.assert_allclose(out, [0.0, 4.0, 5.0], rtol=1e-6)  # floor 0.1 for the constant one, limit 5
