import gc
import sys

import pytest

from eval.speed import train_trl
from eval.speed.processes import alone

NAMES = ("eval.speed.train_ours", "deepspeed", "transformers.models.llama.modeling_llama")
PEER_NAMES = ("trl.trainer.dpo_trainer", "trl.experimental.gkd.gkd_trainer")


def loaded() -> tuple[set[str], int]:
    """What a process has when it begins, and how many objects its collections pass over."""
    return set(sys.modules), gc.get_freeze_count()


@pytest.mark.slow
def test_a_process_begins_with_all_libraries_loaded_and_frozen():
    names, num_frozen = alone(loaded, tuple, num_threads=1)
    assert names.issuperset(NAMES)
    assert names.issuperset(PEER_NAMES) or not train_trl.is_installed()
    assert num_frozen > 100_000
