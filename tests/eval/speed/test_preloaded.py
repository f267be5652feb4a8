import gc
import json
import subprocess
import sys

import pytest

from eval.speed import train_trl
from eval.speed.processes import alone

NAMES = ("eval.speed.train_ours", "deepspeed", "transformers.models.llama.modeling_llama")
PEER_NAMES = ("trl.trainer.dpo_trainer", "trl.experimental.gkd.gkd_trainer")


def loaded() -> tuple[list[str], int]:
    """What a process has when it begins, and how many objects its collections pass over."""
    return sorted(sys.modules), gc.get_freeze_count()


def tell() -> None:
    """The same of a process that this one asks for, as JSON."""
    sys.stdout.write(json.dumps(alone(loaded, tuple, num_threads=1)) + "\n")


@pytest.mark.slow
def test_a_process_begins_with_all_libraries_loaded_and_frozen():
    """Asked for by a program of its own: what processes are forked from is settled by whoever asks first."""
    program = f"from {__name__} import tell; tell()"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    names, num_frozen = json.loads(told.stdout.splitlines()[-1])
    assert set(names).issuperset(NAMES)
    assert set(names).issuperset(PEER_NAMES) or not train_trl.is_installed()
    assert num_frozen > 100_000
