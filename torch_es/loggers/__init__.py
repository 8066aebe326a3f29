"""Where metrics go: each logger takes the same rows, and lives in the parent process only."""

from torch_es.loggers.files import CsvLogger as CsvLogger
from torch_es.loggers.files import JsonlLogger as JsonlLogger
from torch_es.loggers.names import named as named
from torch_es.loggers.protocol import Logger as Logger
from torch_es.loggers.protocol import opened as opened
from torch_es.loggers.tensorboard import TensorBoardLogger as TensorBoardLogger
from torch_es.loggers.wandb import WandbLogger as WandbLogger
