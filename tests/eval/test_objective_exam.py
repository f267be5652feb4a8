from collections.abc import Callable
from pathlib import Path

import pytest

from distill.data import Conversation, Message, write_conversations
from distill.errors import DataError
from distill.models import LoadedModel, load_model, save_model
from eval.objective_exam import Exam


def asked(folder: Path, **facts: object) -> Path:
    """A file of two conversations that each ask one thing."""
    rows = [Conversation(f"c{n}", (Message("user", f"two teas, please {n}"),), dict(facts)) for n in range(2)]
    write_conversations(folder / "test.jsonl", rows)
    return folder / "test.jsonl"


@pytest.fixture
def folder(make_model: Callable[[int], LoadedModel], tmp_path: Path) -> Path:
    """A tiny model on disk."""
    made = make_model(1)
    save_model(made.model, made.tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_a_model_is_judged_by_the_checker_and_at_no_distance_from_itself(tmp_path: Path, folder: Path):
    teacher = load_model(folder, dtype="float32")
    facts = {"checker": "known-answer", "personality": "plain", "answers": {"plain": "never said"}}
    exam = Exam.of(asked(tmp_path, **facts), teacher, num_references=1)
    marks = exam.marks(folder)
    assert len(exam.references) == 1
    assert Exam.of(asked(tmp_path, **facts), teacher, num_references=2).key != exam.key
    assert marks.right == ((False,), (False,))
    assert marks.accuracy.mean == 0.0
    assert marks.kl_to_teacher_nats == pytest.approx(0.0, abs=1e-6)


def test_conversations_that_nobody_can_check_are_refused(tmp_path: Path, folder: Path):
    teacher = load_model(folder, dtype="float32")
    exam = Exam.of(asked(tmp_path), teacher, num_references=1)
    with pytest.raises(DataError, match="no answer can be checked\nwhy: the conversations' facts name no checker"):
        exam.marks(folder)
