import json
import os
import uuid
from pathlib import Path

import pytest

from distill.data import Message
from distill.decoding import SamplingSettings, TransformersGenerator
from distill.errors import DataError, RecipeError
from eval.mt_bench.answers import ModelAnswer, answer_questions, file_name_of, read_answers
from eval.mt_bench.questions import Question

QUESTIONS = [
    Question(2, "menu", ("hello", "and milk?"), system="Be kind."),
    Question(1, "sums", ("how much?", "and two?"), required_temperature=0.0),
]
TABLE = {"hello": "good morning", "and milk?": "oat", "how much?": "$3", "and two?": "$6"}
SETTINGS = SamplingSettings(temperature=0.7)


def answered(generator, folder: Path, **changes: object) -> list[ModelAnswer]:
    arguments = {"model_name": "tiny", "model_fingerprint": "fp", "settings": SETTINGS, "seed": 0} | changes
    questions = arguments.pop("questions", QUESTIONS)
    return answer_questions(generator, questions, output_dir=folder, **arguments)


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "model_answer" / "tiny.jsonl").read_text().splitlines()]


def test_the_file_has_fastchats_fields_and_no_others_sorted_by_question(tmp_path, table_generator):
    answers = answered(table_generator(TABLE), tmp_path)
    assert [answer.question_id for answer in answers] == [2, 1]
    assert [row["question_id"] for row in rows(tmp_path)] == [1, 2]
    row = rows(tmp_path)[1]
    assert set(row) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
    assert row["model_id"] == "tiny"
    assert row["choices"] == [{"index": 0, "turns": ["good morning", "oat"]}]


def test_the_second_turn_is_asked_on_the_models_own_first_answer(tmp_path, table_generator):
    generator = table_generator(TABLE)
    answered(generator, tmp_path)
    own = (Message("system", "Be kind."), Message("user", "hello"), Message("assistant", "good morning"))
    assert (*own, Message("user", "and milk?")) in generator.asked


def test_a_required_temperature_takes_the_place_of_the_settings(tmp_path, table_generator):
    generator = table_generator(TABLE)
    answered(generator, tmp_path)
    by_question = dict(zip((m[-1].content for m in generator.asked), generator.temperatures, strict=True))
    assert by_question == {"hello": 0.7, "and milk?": 0.7, "how much?": 0.0, "and two?": 0.0}


def test_a_rerun_asks_nothing_and_keeps_the_file(tmp_path, table_generator):
    first = answered(table_generator(TABLE), tmp_path)
    before = (tmp_path / "model_answer" / "tiny.jsonl").read_bytes()
    again = table_generator({})
    assert answered(again, tmp_path) == first
    assert again.asked == []
    assert (tmp_path / "model_answer" / "tiny.jsonl").read_bytes() == before


def test_a_new_question_is_asked_alone(tmp_path, table_generator):
    answered(table_generator(TABLE), tmp_path, questions=QUESTIONS[:1])
    generator = table_generator(TABLE)
    answers = answered(generator, tmp_path)
    assert {asked[-1].content for asked in generator.asked} == {"how much?", "and two?"}
    assert [answer.turns[0].text for answer in answers] == ["good morning", "$3"]


@pytest.mark.parametrize(
    "change",
    [{"model_fingerprint": "other"}, {"seed": 1}, {"settings": SamplingSettings(temperature=0.2)}],
    ids=["weights", "seed", "settings"],
)
def test_answers_of_other_weights_settings_or_seed_are_asked_anew(tmp_path, table_generator, change):
    answered(table_generator(TABLE), tmp_path)
    generator = table_generator(TABLE)
    answered(generator, tmp_path, **change)
    assert len(generator.asked) == 4


def test_the_batch_size_changes_no_answer_and_asks_nothing_anew(tmp_path, table_generator):
    answered(table_generator(TABLE), tmp_path)
    generator = table_generator(TABLE)
    answered(generator, tmp_path, settings=SamplingSettings(temperature=0.7, batch_size=3))
    assert generator.asked == []


def test_a_row_that_was_edited_or_a_question_that_was_reworded_is_asked_anew(tmp_path, table_generator):
    answered(table_generator(TABLE), tmp_path)
    path = tmp_path / "model_answer" / "tiny.jsonl"
    path.write_text(path.read_text().replace("good morning", "good evening"))
    generator = table_generator(TABLE)
    reworded = [QUESTIONS[0], Question(1, "sums", ("how much?", "and ten?"), required_temperature=0.0)]
    answered(generator, tmp_path, questions=reworded)
    assert {asked[-1].content for asked in generator.asked} == {"hello", "and milk?", "how much?", "and ten?"}


def test_the_answer_id_is_made_from_the_content(tmp_path, table_generator):
    first, second = answered(table_generator(TABLE), tmp_path)
    assert first.answer_id != second.answer_id
    assert uuid.UUID(first.answer_id).version == 5
    elsewhere = answered(table_generator(TABLE), tmp_path / "elsewhere")
    assert [answer.answer_id for answer in elsewhere] == [first.answer_id, second.answer_id]


def test_token_counts_and_endings_survive_in_the_side_file(tmp_path, table_generator):
    answered(table_generator(TABLE, finish_reason="length"), tmp_path)
    again = answered(table_generator({}), tmp_path)
    assert [(turn.num_tokens, turn.finish_reason) for turn in again[0].turns] == [(3, "length"), (2, "length")]


def test_a_real_model_answers_and_resumes(tmp_path, make_model):
    settings = SamplingSettings(temperature=0.9, max_new_tokens=6)
    whole = answered(TransformersGenerator(make_model(0)), tmp_path / "whole", settings=settings)
    answered(TransformersGenerator(make_model(0)), tmp_path / "parts", settings=settings, questions=QUESTIONS[1:])
    parts = answered(TransformersGenerator(make_model(0)), tmp_path / "parts", settings=settings)
    assert [answer.turns for answer in parts] == [answer.turns for answer in whole]


def test_a_slash_in_the_model_name_becomes_two_underscores_and_is_said(caplog):
    assert file_name_of("Qwen/Qwen2.5-1.5B") == "Qwen__Qwen2.5-1.5B"
    assert "filed under Qwen__Qwen2.5-1.5B" in caplog.text
    assert file_name_of("a:b c") == "a_b_c"
    assert "/" not in file_name_of("../../etc/passwd")
    assert not file_name_of("../x").startswith(".")


@pytest.mark.parametrize("name", ["", " ", "...", "/"])
def test_a_model_name_of_nothing_is_refused(name: str):
    with pytest.raises(RecipeError, match="cannot name a file"):
        file_name_of(name)


def test_read_answers_takes_the_last_row_of_a_question_and_names_a_wrong_line(tmp_path):
    path = tmp_path / "model.jsonl"
    row = {"question_id": 1, "choices": [{"index": 0, "turns": ["a"]}]}
    newer = {"question_id": 1, "choices": [{"index": 0, "turns": ["b"]}, {"index": 1, "turns": ["c"]}]}
    path.write_text(json.dumps(row) + "\n" + json.dumps(newer) + "\n")
    assert read_answers(path) == {1: ("b",)}
    path.write_text(json.dumps(row) + "\n" + json.dumps({"question_id": 1}) + "\n")
    with pytest.raises(DataError, match=r"model\.jsonl:2 is no answer"):
        read_answers(path)


def test_fastchats_own_answers_are_read():
    folder = Path(os.environ.get("DISTILL_TEST_DATA", "absent")) / "mt_bench"
    files = sorted(folder.rglob("model_answer/*.jsonl"))
    if not files:
        pytest.skip("DISTILL_TEST_DATA names no folder with mt_bench/**/model_answer")
    for path in files:
        assert all(len(turns) == 2 for turns in read_answers(path).values())
