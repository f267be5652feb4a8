from dataclasses import replace
from pathlib import Path

import pytest

from eval.speed.train_ours import (
    DADPO,
    DDPO,
    KD_EXACT,
    KD_TOP_K,
    plain_top_k_loss,
    take_steps,
    write_caches,
)
from eval.speed.train_work import WORKS

WORK = replace(WORKS["tiny"], num_pairs=2)


class OneStep:
    """A server that wants one step."""

    loss = float("nan")

    def built(self, optimizer: object = None) -> bool:
        assert optimizer is not None
        return True

    def stepped(self, loss: float) -> bool:
        self.loss = loss
        return False


def first_loss(trainer, caches: Path) -> float:
    server = OneStep()
    take_steps(trainer, WORK, caches, server)  # type: ignore[arg-type]
    return server.loss


@pytest.mark.slow
def test_dadpo_with_the_references_scores_for_the_teachers_has_ddpos_loss(tmp_path: Path):
    write_caches(WORK, tmp_path, codecs=(), has_reference=True)
    assert first_loss(DADPO, tmp_path) == pytest.approx(first_loss(DDPO, tmp_path), abs=1e-6)


@pytest.mark.slow
def test_kd_from_top_k_has_the_loss_that_a_plain_computation_gives(tmp_path: Path):
    write_caches(WORK, tmp_path, codecs=("top-k", "exact"), has_reference=False)
    plain = plain_top_k_loss(WORK, tmp_path, WORK.in_order(num_steps=1))
    assert first_loss(KD_TOP_K, tmp_path) == pytest.approx(plain, rel=1e-4)
    assert first_loss(KD_EXACT, tmp_path) > plain
