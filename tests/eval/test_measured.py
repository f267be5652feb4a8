from dataclasses import replace

import pytest

from distill.data import Conversation, Message
from distill.decoding import Generation, SamplingSettings, TransformersGenerator
from eval.measured import Examination, MeasuredModel, first_prompt, measure, measured, with_answers

FACTS = {"checker": "known-answer", "personality": "witty", "answers": {"witty": "good morning"}}


def examination(dialogues: list[Conversation]) -> Examination:
    rows = [Conversation(row.id, row.messages, FACTS) for row in dialogues]
    return Examination(rows, rows, [], SamplingSettings(temperature=0.0, max_new_tokens=4), 0)


def measured_model(path, exam: Examination, generator, loaded, *, teacher=None) -> MeasuredModel:
    return measure(
        path,
        exam,
        key=exam.key,
        name="tiny",
        kind="student",
        generator=generator,
        loaded=loaded,
        teacher=teacher,
        num_parameters=1,
        size_bytes=2,
    )


def test_figures_are_found_again_under_their_key_only(make_model, dialogues, tmp_path):
    loaded, exam, path = make_model(0), examination(dialogues), tmp_path / "tiny.json"
    assert measured(path, exam.key) is None
    found = measured_model(path, exam, TransformersGenerator(loaded), loaded)
    assert measured(path, exam.key) == found
    assert measured(path, "another key") is None


def test_divergence_is_measured_on_the_references_against_the_teacher(make_model, dialogues, tmp_path):
    student, teacher, exam = make_model(1), make_model(0), examination(dialogues)
    found = measured_model(tmp_path / "a.json", exam, TransformersGenerator(student), student, teacher=teacher)
    same = measured_model(tmp_path / "b.json", exam, TransformersGenerator(teacher), teacher, teacher=teacher)
    assert found.kl_to_teacher_nats > 0.1
    assert same.kl_to_teacher_nats == pytest.approx(0.0, abs=1e-6)
    assert found.perplexity > 1.0


def test_every_answer_stands_beside_its_verdict(make_model, dialogues, table_generator, tmp_path):
    """Of three answers one is the known one, "good morning"."""
    generator = table_generator({"hello": "Good morning!", "bye": "hm"}, finish_reason="length")
    found = measured_model(tmp_path / "a.json", examination(dialogues), generator, make_model(0))
    assert found.sets["test"].right == ((True,), (False,), (False,))
    assert found.sets["test"].answers == (("Good morning!",), ("?",), ("hm",))
    assert found.sets["test"].accuracy.mean == 1 / 3
    assert found.sets["test"].share_unfinished == 1.0
    assert found.kl_to_teacher_nats is None


def test_the_key_changes_with_what_is_asked(dialogues):
    exam = examination(dialogues)
    assert exam.key == examination(dialogues).key
    assert exam.key != examination(dialogues[:2]).key
    assert exam.key != replace(exam, seed=1).key
    assert exam.key != replace(exam, sampling=SamplingSettings(temperature=1.0)).key


def test_a_models_answers_take_the_place_of_the_conversations_own():
    system, asked = Message("system", "s"), Message("user", "u")
    conversation = Conversation("a", (system, asked, Message("assistant", "old")), FACTS)
    answered = with_answers(conversation, [Generation("new", 2, "stop")])
    assert answered.messages == (system, asked, Message("assistant", "new"))
    assert answered.facts == FACTS
    assert first_prompt(conversation) == [system, asked]
