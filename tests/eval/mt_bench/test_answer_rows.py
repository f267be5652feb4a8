import json
from pathlib import Path

import pytest

from distill.errors import DataError
from eval.mt_bench.answer_rows import read_answer_rows, write_answer_rows

ROW = {
    "question_id": 2,
    "answer_id": "x",
    "model_id": "org/small",
    "choices": [{"index": 0, "turns": ["a", "b"], "wall_time": [1.0, 2.0]}, {"index": 1, "turns": ["c", "d"]}],
    "tstamp": 1.5,
    "note": "theirs",
}


def test_a_row_of_another_hand_survives_the_round_trip(tmp_path: Path):
    path = tmp_path / "model.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    write_answer_rows(path, read_answer_rows(path))
    assert json.loads(path.read_text()) == ROW


def test_rows_are_written_by_question_and_the_last_of_a_question_counts(tmp_path: Path):
    path = tmp_path / "model.jsonl"
    rows = [ROW, {**ROW, "question_id": 1}, {**ROW, "answer_id": "newer"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    write_answer_rows(path, read_answer_rows(path))
    assert [(row.question_id, row.answer_id) for row in read_answer_rows(path)] == [(1, "x"), (2, "newer")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_id": None}, r"model\.jsonl:1: question_id is None"),
        ({"tstamp": "now"}, r"model\.jsonl:1: tstamp is 'now'"),
        ({"choices": []}, r"model\.jsonl:1: choices is \[\]"),
        ({"choices": [{"turns": [1]}]}, r"model\.jsonl:1: choices\[0\]\.turns is \[1\]"),
        ({"choices": [{"turns": ["a"], "index": "0"}]}, r"model\.jsonl:1: choices\[0\]\.index is '0'"),
    ],
)
def test_a_wrong_row_is_refused_by_file_and_line(tmp_path: Path, change, message):
    path = tmp_path / "model.jsonl"
    path.write_text(json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(DataError, match=message):
        read_answer_rows(path)


def test_public_answer_files_of_several_hands_survive_the_round_trip(public_mt_bench: Path):
    files = [path for hand in ("dreaming-panda", "instructlab", "sarahlmk") for path in _answers(public_mt_bench, hand)]
    files += _answers(public_mt_bench, "medusa")[:1]
    assert len(files) == 7
    for path in files:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [row.to_json() for row in read_answer_rows(path)] == rows


def _answers(folder: Path, hand: str) -> list[Path]:
    paths = sorted((folder / "judgments" / hand).rglob("*.jsonl"))
    return [path for path in paths if "model_judgment" not in path.parts]
