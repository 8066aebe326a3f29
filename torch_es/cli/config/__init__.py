"""From the words of a command line to a trainer: the YAML files of `conf/`, checked, composed and built."""

from torch_es.cli.config.build import ACTING as ACTING
from torch_es.cli.config.build import Config as Config
from torch_es.cli.config.build import build as build
from torch_es.cli.config.build import build_loggers as build_loggers
from torch_es.cli.config.build import check_values as check_values
from torch_es.cli.config.build import name_group as name_group
from torch_es.cli.config.compose import compose_config as compose_config
from torch_es.cli.config.compose import tuned_env as tuned_env
from torch_es.cli.config.compose import with_tuned as with_tuned
from torch_es.cli.config.overrides import check_overrides as check_overrides
from torch_es.cli.config.overrides import conf_dir as conf_dir
from torch_es.cli.config.overrides import options as options
from torch_es.cli.config.overrides import parsed_overrides as parsed_overrides
from torch_es.cli.config.overrides import plain as plain
from torch_es.cli.config.overrides import split_flags as split_flags
from torch_es.cli.config.overrides import with_search_path as with_search_path
from torch_es.cli.config.resume import CHANGEABLE as CHANGEABLE
from torch_es.cli.config.resume import changed as changed
from torch_es.cli.config.resume import check_free as check_free
from torch_es.cli.config.resume import check_imports as check_imports
from torch_es.cli.config.resume import find_run as find_run
from torch_es.cli.config.resume import fixed_differences as fixed_differences
from torch_es.cli.config.resume import load_config as load_config
from torch_es.cli.config.resume import restored as restored
from torch_es.cli.config.resume import resumed_config as resumed_config
from torch_es.cli.config.resume import save_config as save_config
