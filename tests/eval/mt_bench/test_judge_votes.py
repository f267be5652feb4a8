from pathlib import Path

import pytest

from distill.errors import DataError
from eval.agreement import Vote
from eval.mt_bench.folder import BenchFolder
from eval.mt_bench.judge_votes import agreement_rows, votes_in, votes_of
from eval.mt_bench.judgments import PairJudgment, write_pair


def pair(first: str, second: str, question: int = 1) -> PairJudgment:
    prompt = f"prompt {question}"
    return PairJudgment(question, "x", "y", None, None, ("j", "p"), prompt, first, prompt, second, 1, 0.0, winner="tie")


def test_orders_that_differ_are_a_tie_and_failures_no_vote():
    votes = votes_of([pair("[[A]]", "[[B]]"), pair("[[A]]", "[[A]]", 2), pair("?", "[[A]]", 3)])
    assert [(vote.question_id, vote.winner) for vote in votes] == [(1, "model_a"), (2, "tie")]


def test_a_judge_is_held_against_people_turn_by_turn():
    votes = [Vote("expert_1", "x", "y", 1, 1, "model_a"), Vote("j", "x", "y", 1, 1, "model_a")]
    rows = agreement_rows(votes)
    assert [(row["judges"], row["agree"], row["of"]) for row in rows] == [("j and human", 1, 1)] * 2


def test_a_benchmarks_votes_are_its_judges_pairs_too(tmp_path: Path):
    with pytest.raises(DataError, match="holds no votes"):
        votes_in((), BenchFolder(tmp_path))
    write_pair(tmp_path / "model_judgment" / "j_pair.jsonl", [pair("[[A]]", "[[B]]")])
    assert [vote.judge for vote in votes_in((), BenchFolder(tmp_path))] == ["j"]
