"""Evaluators: which process plays which task."""

from torch_es.evaluators.choice import make_evaluator as make_evaluator
from torch_es.evaluators.process import ProcessEvaluator as ProcessEvaluator
from torch_es.evaluators.protocol import Evaluator as Evaluator
from torch_es.evaluators.protocol import EvaluatorFactory as EvaluatorFactory
from torch_es.evaluators.resources import default_num_workers as default_num_workers
from torch_es.evaluators.serial import SerialEvaluator as SerialEvaluator
from torch_es.evaluators.tolerance import TOLERANCE as TOLERANCE
from torch_es.evaluators.tolerance import FaultTolerance as FaultTolerance

__all__ = ["Evaluator", "EvaluatorFactory", "FaultTolerance", "ProcessEvaluator", "SerialEvaluator"]
