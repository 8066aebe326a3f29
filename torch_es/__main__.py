"""`python -m torch_es` is the command `torch-es`."""

import sys

from torch_es.cli import main

sys.exit(main())
