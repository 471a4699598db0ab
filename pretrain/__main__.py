"""`python -m pretrain ...`: the entry that `torchrun -m pretrain` and `accelerate launch -m pretrain` start."""

import sys
from importlib.metadata import EntryPoint

from echofm.cli import GROUP, run

sys.exit(run(EntryPoint("pretrain", "pretrain.cli:main", GROUP), sys.argv[1:]))
