from pathlib import Path

import pytest

from distill.errors import RecipeError
from eval.mt_bench.answer_rows import AnswerRow, Choice, write_answer_rows
from eval.mt_bench.bench_matches import JudgingRequest, matches_of
from eval.mt_bench.folder import BenchFolder, open_bench
from eval.mt_bench.questions import read_questions


@pytest.fixture
def bench(tmp_path: Path) -> BenchFolder:
    bench = open_bench("two_turns", data=tmp_path)
    ids = [question.question_id for question in read_questions(bench.questions)][:3]
    for model in ("a", "b", "c"):
        rows = [AnswerRow(number, "x", model, (Choice(0, (model, f"{model}{number}")),), 0.0) for number in ids]
        write_answer_rows(bench.folder / "model_answer" / f"{model}.jsonl", rows)
    return bench


@pytest.mark.parametrize(("mode", "count"), [("single", 18), ("pairwise-baseline", 24), ("pairwise-all", 36)])
def test_a_mode_says_how_many_calls(bench: BenchFolder, mode, count: int):
    """3 questions of 2 turns: 3 models alone; 2 against a baseline, or 3 pairs, in both orders."""
    matches, told = matches_of(bench, JudgingRequest(mode, baseline="a", first_n=3))
    assert len(matches.judged) == count
    assert {"questions", "prompts", "references"} <= set(told["sha256"])


def test_the_baseline_is_read_with_the_models_that_are_named(bench: BenchFolder):
    matches, _ = matches_of(bench, JudgingRequest("pairwise-baseline", models=("b",), baseline="a", first_n=1))
    assert {match.models for match in matches.judged} == {("b", "a"), ("a", "b")}


def test_canaries_are_judged_beside_the_model(bench: BenchFolder):
    matches, _ = matches_of(bench, JudgingRequest(models=("a",), canaries_of=("a",), first_n=3))
    assert len({match.models for match in matches.judged}) == 4
    with pytest.raises(RecipeError, match="--canaries is z"):
        matches_of(bench, JudgingRequest(canaries_of=("z",)))


def test_a_wrong_request_is_refused(bench: BenchFolder):
    with pytest.raises(RecipeError, match="--first-n is 0"):
        matches_of(bench, JudgingRequest(first_n=0))
    with pytest.raises(RecipeError, match="--mode is both"):
        matches_of(bench, JudgingRequest("both"))
