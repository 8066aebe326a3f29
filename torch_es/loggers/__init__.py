"""Where metrics go: each logger gets the same rows, in the training process only."""

from torch_es.loggers.files import CsvLogger, JsonlLogger
from torch_es.loggers.names import named as named
from torch_es.loggers.protocol import Logger
from torch_es.loggers.tensorboard import TensorBoardLogger
from torch_es.loggers.wandb import WandbLogger

__all__ = [
    "CsvLogger",
    "JsonlLogger",
    "Logger",
    "TensorBoardLogger",
    "WandbLogger",
]
