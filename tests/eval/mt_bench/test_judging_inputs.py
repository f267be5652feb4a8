import hashlib

import pytest

from distill.errors import DataError
from eval.mt_bench.answer_rows import write_answer_rows
from eval.mt_bench.judge_prompts import write_judge_prompts
from eval.mt_bench.judging_inputs import read_judging_inputs
from eval.mt_bench.questions import write_questions
from tests.judge_cases import PROMPTS, answer, question


@pytest.fixture
def folder(tmp_path):
    write_questions(tmp_path / "question.jsonl", [question(1), question(2)])
    write_judge_prompts(tmp_path / "judge_prompts.jsonl", PROMPTS.values())
    write_answer_rows(tmp_path / "reference_answer" / "vetted.jsonl", [answer(1, "vetted", "r1", "r2")])
    for model in ("b", "a"):
        write_answer_rows(tmp_path / "model_answer" / f"{model}.jsonl", [answer(1, model), answer(2, model)])
    return tmp_path


def read(folder, **changes):
    files = {"questions": folder / "question.jsonl", "prompts": folder / "judge_prompts.jsonl"}
    return read_judging_inputs(folder, **({"references": None} | files | changes))


def test_all_is_read_with_its_checksums(folder):
    found = read(folder, references=folder / "reference_answer" / "vetted.jsonl")
    assert [q.question_id for q in found.questions] == [1, 2]
    assert list(found.answers) == ["a", "b"]
    assert (found.reference_set, found.references) == ("vetted", {1: ("r1", "r2")})
    assert found.prompts == PROMPTS
    assert set(found.sha256) == {"questions", "prompts", "references", "answers of a", "answers of b"}
    told = hashlib.sha256((folder / "model_answer" / "a.jsonl").read_bytes()).hexdigest()
    assert found.sha256["answers of a"] == told


def test_no_references_have_no_name(folder):
    assert (read(folder).reference_set, read(folder).references) == (None, {})


def test_a_reference_set_may_be_named(folder):
    path = folder / "reference_answer" / "vetted.jsonl"
    assert read(folder, references=path, reference_set="mine").reference_set == "mine"


def test_models_are_chosen_and_unknown_ones_refused(folder):
    assert list(read(folder, models=["b"]).answers) == ["b"]
    with pytest.raises(DataError, match=r"(?s)holds no answers of z.*there are: a, b"):
        read(folder, models=["a", "z"])
