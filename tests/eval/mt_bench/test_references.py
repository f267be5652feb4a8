import json
from pathlib import Path

import pytest

from distill.errors import DataError
from eval.mt_bench.references import read_references


def test_references_are_read_from_an_answer_file_the_first_choice_and_the_last_row(tmp_path: Path):
    path = tmp_path / "gpt-4.jsonl"
    rows = [
        {"question_id": 1, "choices": [{"index": 0, "turns": ["old", "old"]}]},
        {"question_id": 1, "choices": [{"index": 0, "turns": ["a", "b"]}, {"index": 1, "turns": ["c", "d"]}]},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert read_references(path) == {1: ("a", "b")}


def test_references_are_read_from_questions_that_bring_their_own(tmp_path: Path):
    path = tmp_path / "question.jsonl"
    with_one = {"question_id": 1, "category": "math", "turns": ["1+1?", "2+2?"], "reference": ["2", "4"]}
    without = {"question_id": 2, "category": "writing", "turns": ["Write.", "More."]}
    path.write_text(json.dumps(with_one) + "\n" + json.dumps(without) + "\n")
    assert read_references(path) == {1: ("2", "4")}
    path.write_text(json.dumps(without) + "\n")
    with pytest.raises(DataError, match="holds no reference answer"):
        read_references(path)


def test_a_row_that_is_neither_is_refused_by_file_and_line(tmp_path: Path):
    (tmp_path / "set.jsonl").write_text('{"question_id": 1}\n')
    with pytest.raises(DataError, match=r"set\.jsonl:1: choices is None"):
        read_references(tmp_path / "set.jsonl")


def test_the_public_reference_sets_are_read(public_mt_bench: Path):
    official = read_references(public_mt_bench / "official" / "mt_bench" / "reference_answer" / "gpt-4.jsonl")
    corrected = read_references(public_mt_bench / "corrected" / "gpt-4-0125-preview.jsonl")
    own = read_references(public_mt_bench / "corrected" / "mt_bench_inf.jsonl")
    assert set(official) == set(corrected) == set(range(101, 131))
    assert (len(own), {len(turns) for turns in own.values()}) == (39, {2})
