from pathlib import Path

import pytest

from distill.data import Conversation, Message, write_conversations
from distill.errors import DataError
from eval.mt_bench.board import Benchmark
from eval.mt_bench.judgments import PairJudgment
from eval.mt_bench.questions import Question
from eval.mt_bench.rate import RateRequest, leakage_of, rate_from, rate_rows, training_conversations

QUESTIONS = tuple(Question(n, "menu", (f"what does item number {n} of the long menu cost today",)) for n in range(4))


def benchmark() -> Benchmark:
    """The student wins two questions, loses one in both orders, and one order each."""
    replies = [("[[A]]", "[[B]]"), ("[[A]]", "[[B]]"), ("[[B]]", "[[A]]"), ("[[A]]", "[[A]]")]
    rows = tuple(
        PairJudgment(q, "s", "t", "tie", "tie", ("j", "p"), f"{q}", first, f"{q}", second, 1, 0.0)
        for q, (first, second) in enumerate(replies)
    )
    return Benchmark("b", QUESTIONS, {}, {}, {"j": rows})


def test_the_rate_is_wins_less_losses_and_a_disagreement_a_tie():
    """(2 - 1) / 4."""
    found = rate_from(benchmark(), "j", RateRequest("s", "t"))
    assert (found.outcomes.num_wins, found.outcomes.num_ties, found.outcomes.num_losses) == (2, 1, 1)
    assert found.outcomes.signed_rate.mean == 0.25
    rows = {row["what"]: row["value"] for row in rate_rows(found, judge="j", leakage=None)}
    assert rows["wins, ties, losses"] == "2, 1, 1"
    assert "not checked" in str(rows["questions trained on"])


def test_models_that_never_met_are_refused():
    with pytest.raises(DataError, match=r"(?s)j did not compare s with u.*it compared: s and t"):
        rate_from(benchmark(), "j", RateRequest("s", "u"))


def test_training_files_are_looked_through(tmp_path: Path):
    trained = Conversation("c", (Message("user", QUESTIONS[0].turns[0]), Message("assistant", "two")))
    write_conversations(tmp_path / "train.jsonl", [trained])
    report = leakage_of(QUESTIONS, training_conversations([tmp_path / "train.jsonl"]))
    assert [leak.found_in for leak in report.leaked] == ["c"]
