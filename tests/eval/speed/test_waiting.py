from eval.speed import waiting
from eval.speed.teachers import TeacherShape
from eval.speed.waiting import waiting_row

STUDENT = TeacherShape(vocab_size=2100, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24)


def test_waiting_is_a_share_of_the_measured_steps(monkeypatch):
    monkeypatch.setattr(waiting, "TEACHER_HIDDEN_SIZE", 8)
    found = waiting_row(2, student=STUDENT)
    assert found.steps == 2
    assert found.step_s.low > 0
    assert 0.0 <= found.waiting_share <= 1.0
