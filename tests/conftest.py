"""Set-up of every test: a CPU that spins no idle threads, and shapes checked wherever `distill` states them."""

import os
import sys
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = str(Path(__file__).parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

import tests.typechecking  # noqa: E402, F401  (the hook finds the checker by its name)

install_import_hook("distill", "tests.typechecking.checked")
torch.set_num_threads(1)
settings.register_profile("distill", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("distill")
