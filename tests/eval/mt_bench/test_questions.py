import json
import os
from collections import Counter
from pathlib import Path

import pytest

from distill.data import Message
from distill.errors import DataError
from eval.mt_bench.questions import Question, embedded_questions, question_from, read_questions, write_questions

ROW = {"question_id": 7, "category": "menu", "turns": ["One?", "Two?"], "reference": ["1", "2"]}


def test_a_row_of_fastchat_survives_the_round_trip_unchanged():
    row = {**ROW, "required_temperature": 0.5}
    assert question_from(row, where="here").to_json() == row


def test_a_question_file_survives_the_round_trip(tmp_path):
    questions = [
        Question(
            1, "menu", ("One?", "Two?"), ("1", "2"), system="Be kind.", facts={"checker": "embedded", "turns": []}
        ),
        Question(2, "sums", ("How much?",), required_temperature=0.0),
    ]
    write_questions(tmp_path / "question.jsonl", questions)
    assert read_questions(tmp_path / "question.jsonl") == questions


def test_a_question_becomes_a_conversation_under_its_system_message():
    conversation = Question(7, "menu", ("One?", "Two?"), system="Be kind.", facts={"a": 1}).to_conversation()
    assert conversation.id == "question-7"
    assert conversation.messages == (Message("system", "Be kind."), Message("user", "One?"), Message("user", "Two?"))
    assert conversation.facts == {"a": 1}
    assert Question(7, "menu", ("One?",)).to_conversation().system is None


@pytest.mark.slow  # with every call of the world's generator type-checked
def test_the_embedded_questions_are_eighty_of_two_turns_in_eight_categories():
    questions = embedded_questions()
    assert len({question.question_id for question in questions}) == 80
    assert set(Counter(question.category for question in questions).values()) == {10}
    assert len({question.category for question in questions}) == 8
    assert all(len(question.turns) == len(question.reference) == 2 for question in questions)
    assert all(question.system and question.facts["checker"] == "embedded" for question in questions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_id": "7"}, "question_id is '7'"),
        ({"question_id": True}, "question_id is True"),
        ({"category": ""}, "category is ''"),
        ({"turns": []}, "turns is empty"),
        ({"turns": "One?"}, r"turns is 'One\?'"),
        ({"turns": [1]}, r"turns is \[1\]"),
        ({"reference": ["1"]}, "1 references for 2 turns"),
        ({"required_temperature": -1}, "required_temperature is -1"),
        ({"system": 3}, "system is 3"),
        ({"facts": [1]}, r"facts is \[1\]"),
    ],
)
def test_a_wrong_row_is_refused_with_its_place(change: dict[str, object], message: str):
    with pytest.raises(DataError, match=rf"^here: {message}"):
        question_from({**ROW, **change}, where="here")


def test_a_wrong_row_in_a_file_is_named_by_line(tmp_path):
    path = tmp_path / "question.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, "turns": 3}) + "\n")
    with pytest.raises(DataError, match=r"question\.jsonl:2: turns is 3"):
        read_questions(path)
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW) + "\n")
    with pytest.raises(DataError, match=r"question\.jsonl:2: question_id 7 stands twice"):
        read_questions(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no question"):
        read_questions(path)


def test_fastchats_own_questions_are_read():
    folder = Path(os.environ.get("DISTILL_TEST_DATA", "absent")) / "mt_bench"
    files = sorted(folder.rglob("question.jsonl"))
    if not files:
        pytest.skip("DISTILL_TEST_DATA names no folder with mt_bench/**/question.jsonl")
    for path in files:
        assert len(read_questions(path)) == 80
