from pathlib import Path

import pytest

from distill.errors import DataError
from eval.mt_bench.layout import answer_files, judgment_file


def test_a_models_id_is_its_files_path_inside_model_answer(tmp_path: Path):
    folder = tmp_path / "model_answer"
    (folder / "org").mkdir(parents=True)
    for name in ("zephyr-7b-v1.3.jsonl", "org/small.jsonl", "zephyr-7b-v1.3.meta.json", ".x.jsonl.12345678.partial"):
        (folder / name).write_text("{}\n")
    assert answer_files(tmp_path) == {
        "org/small": folder / "org/small.jsonl",
        "zephyr-7b-v1.3": folder / "zephyr-7b-v1.3.jsonl",
    }


def test_two_files_of_one_filed_name_are_refused(tmp_path: Path):
    folder = tmp_path / "model_answer"
    (folder / "org").mkdir(parents=True)
    for name in ("org/small.jsonl", "org__small.jsonl"):
        (folder / name).write_text("{}\n")
    with pytest.raises(DataError, match="holds answers of org/small and of org__small"):
        answer_files(tmp_path)


def test_a_folder_without_answers_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"model_answer holds no \*\.jsonl"):
        answer_files(tmp_path)


def test_a_judges_file_stands_where_fastchat_looks_for_it(tmp_path: Path):
    assert judgment_file(tmp_path, "gpt-4", "single") == tmp_path / "model_judgment" / "gpt-4_single.jsonl"
    assert judgment_file(tmp_path, "org/judge", "pair") == tmp_path / "model_judgment" / "org__judge_pair.jsonl"


def test_the_public_answers_of_a_model_with_a_slash_are_found(public_mt_bench: Path):
    assert list(answer_files(public_mt_bench / "judgments" / "instructlab" / "mt_bench")) == [
        "instructlab/granite-7b-lab"
    ]
