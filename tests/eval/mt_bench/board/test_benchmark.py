import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.errors import DataError
from eval.mt_bench.board import Benchmark, read_benchmark
from eval.mt_bench.board.benchmark import prompt_sets_of


def test_rows_stand_by_judge_with_their_side_files(benchmark: Benchmark):
    assert sorted(benchmark.single) == ["judge-one", "judge-two"]
    assert list(benchmark.pair) == ["judge-one"]
    assert benchmark.reference_set("single", "judge-one") == "by hand"
    assert benchmark.reference_set("single", "judge-two") == "not recorded"
    assert benchmark.references[3][1] == "An hour later."
    assert benchmark.characters()["student", 7, 2] == 0


def test_a_judge_without_references_says_so(make_benchmark: Callable[..., Path], tmp_path: Path):
    folder = make_benchmark(tmp_path / "tides")
    (folder / "model_judgment" / "judge-one_single.meta.json").write_text('{"reference_set": null}')
    assert read_benchmark(folder).reference_set("single", "judge-one") == "none"


def test_judges_and_models_are_chosen(make_benchmark: Callable[..., Path], tmp_path: Path):
    folder = make_benchmark(tmp_path / "tides")
    chosen = read_benchmark(folder, judges=["judge-one"], models=["student", "teacher"])
    assert list(chosen.single) == ["judge-one"]
    assert {row.model for row in chosen.single["judge-one"]} == {"student", "teacher"}
    assert {(row.model_1, row.model_2) for row in chosen.pair["judge-one"]} == {("student", "teacher")}
    with pytest.raises(DataError, match=r"(?s)names the judge nobody.*judge-one, judge-two"):
        read_benchmark(folder, judges=["nobody"])
    with pytest.raises(DataError, match=r"names the model nobody"):
        read_benchmark(folder, models=["nobody"])


def test_two_files_of_one_judge_are_refused(make_benchmark: Callable[..., Path], tmp_path: Path):
    judged = make_benchmark(tmp_path / "tides") / "model_judgment"
    shutil.copy(judged / "judge-one_single.jsonl", judged / "copy_single.jsonl")
    with pytest.raises(DataError, match=r"copy_single.jsonl and .*judge-one_single.jsonl both hold .* judge-one"):
        read_benchmark(judged.parent)


def test_nothing_judged_is_told(make_benchmark: Callable[..., Path], tmp_path: Path):
    folder = make_benchmark(tmp_path / "tides")
    shutil.rmtree(folder / "model_judgment")
    with pytest.raises(DataError, match=r"no \*_single.jsonl and no \*_pair.jsonl"):
        read_benchmark(folder)


def test_prompts_are_named_by_their_set(benchmark: Benchmark):
    assert prompt_sets_of(benchmark.single["judge-one"]) == "single-v1"
    assert prompt_sets_of(benchmark.pair["judge-one"]) == "pair-v2"
    assert prompt_sets_of([]) == "not recorded"
