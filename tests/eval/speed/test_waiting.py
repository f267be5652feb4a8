import pytest

from eval.speed import waiting
from eval.speed.teachers import TeacherShape
from eval.speed.waiting import row_of, waiting_row

STUDENT = TeacherShape(vocab_size=2100, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24)


def test_waiting_is_told_of_the_trainers_own_steps_after_the_first_ones(monkeypatch):
    monkeypatch.setattr(waiting, "TEACHER_HIDDEN_SIZE", 8)
    found = waiting_row(2, student=STUDENT)
    assert found.steps == 2
    assert found.step_s.low > 0
    assert 0.0 <= found.waiting_share < 1.0


def test_the_share_is_of_all_steps_together():
    """0.1 + 0.2 seconds waited of 1 + 5: a twentieth, where the mean of both shares would be 0.07."""
    found = row_of([1.0, 5.0], [0.1, 0.2])
    assert found.waiting_share == pytest.approx(0.05)
    assert (found.steps, found.step_s.median) == (2, 3.0)
