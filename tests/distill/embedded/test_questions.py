"""Laws of the eighty questions."""

from collections import Counter

from distill.embedded import CATEGORIES, check_answer, draw, questions


def test_eighty_questions_of_two_turns_ten_per_category():
    rows = questions()
    assert [row["question_id"] for row in rows] == list(range(1, 81))
    assert Counter(row["category"] for row in rows) == dict.fromkeys(CATEGORIES, 10)
    assert all(len(row["turns"]) == len(row["reference"]) == 2 for row in rows)
    assert len({tuple(row["turns"]) for row in rows}) == 80


def test_references_are_right():
    for row in questions():
        assert all(check_answer(row["facts"], turn, row["reference"][turn]).is_right for turn in (0, 1))


def test_most_second_turns_refer_to_first_ones():
    assert sum(row["facts"]["turns"][1]["follows"] for row in questions()) > 40


def test_questions_of_a_category_differ_in_what_they_want():
    for category in CATEGORIES:
        rows = [row for row in questions() if row["category"] == category]
        assert len({turn["intent"] for row in rows for turn in row["facts"]["turns"]}) >= 8


def test_questions_are_not_in_the_training_splits():
    asked = {text for row in questions() for text in row["turns"]}
    for split in ("teacher", "prompts", "labelled"):
        for row in draw(split, num_dialogues=300, seed=0):
            assert not asked & {message["content"] for message in row["messages"] if message["role"] == "user"}


def test_callers_cannot_change_the_questions():
    questions()[0]["turns"] = []
    assert questions()[0]["turns"]
