"""Set-up of every test: a CPU that spins no idle threads, and shapes checked wherever `distill` states them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = str(Path(__file__).parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

import jaxtyping  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

import tests.typechecking  # noqa: E402  (the hook finds the checker by its name)

jaxtyping.install_import_hook(tests.typechecking.modules_with_shapes(Path(ROOT)), "tests.typechecking.checked")
torch.set_num_threads(1)
settings.register_profile("distill", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("distill")


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """Annotations are not checked meanwhile: for what runs thousands of times, that is most of the time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
