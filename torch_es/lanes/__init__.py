"""Many perturbed networks in one forward."""

from torch_es.lanes.choice import LaneChoice as LaneChoice
from torch_es.lanes.choice import choose_lanes as choose_lanes
from torch_es.lanes.choice import lanes_for as lanes_for
from torch_es.lanes.choice import make_lanes as make_lanes
from torch_es.lanes.protocol import Lanes as Lanes
from torch_es.lanes.protocol import default_num_lanes as default_num_lanes
