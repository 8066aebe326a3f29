"""What an observation is: a space as one flat row, and as JSON."""

from torch_es.spaces.layout import Inputs as Inputs
from torch_es.spaces.layout import Layout as Layout
