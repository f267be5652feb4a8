import csv
import json
from pathlib import Path

import pytest

from distill.errors import GateError, RecipeError
from eval.mt_bench.answer_rows import AnswerRow, Choice, write_answer_rows
from eval.mt_bench.bench_matches import JudgingRequest
from eval.mt_bench.board import BoardSettings, read_benchmark, scoreboard
from eval.mt_bench.folder import BenchFolder, open_bench
from eval.mt_bench.judge_choice import JudgeChoice
from eval.mt_bench.judge_votes import agreement_rows, votes_in
from eval.mt_bench.judgments import read_pair
from eval.mt_bench.questions import read_questions
from eval.mt_bench.rate import RateRequest, rate_from
from eval.mt_bench.run_judge import JudgingRun, read_human_labels, write_human_sheet
from eval.mt_bench.shown import failing_tables

PRICES = "date: '2026-01-01'\ncurrency: EUR\nper_million_tokens: {m: {prompt: 1000000.0, completion: 0.0}}\n"


@pytest.fixture
def bench(tmp_path: Path) -> BenchFolder:
    bench = open_bench("two_turns", data=tmp_path)
    ids = [question.question_id for question in read_questions(bench.questions)][:3]
    for model, words in (("a", 1), ("b", 100)):
        rows = [AnswerRow(number, "x", model, (Choice(0, ("word " * words,) * 2),), 0.0) for number in ids]
        write_answer_rows(bench.folder / "model_answer" / f"{model}.jsonl", rows)
    return bench


def test_a_batch_is_planned_written_and_never_over_its_budget(bench: BenchFolder, tmp_path: Path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    choice = JudgeChoice("batch", model="m")
    run = JudgingRun(bench, JudgingRequest(first_n=2), choice, prices=prices, max_cost=0.0)
    plan = run.plan()
    assert (plan["num_to_ask"], plan["currency"]) == (8, "EUR")
    assert plan["cost"] == plan["num_prompt_tokens"]
    assert run.write_batch(tmp_path / "batch.jsonl") == 8
    assert len((tmp_path / "batch.jsonl").read_text().splitlines()) == 8
    with pytest.raises(GateError, match="8 of 8 calls were not made"):
        run.judged()


def test_prices_go_with_a_server(bench: BenchFolder, tmp_path: Path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    with pytest.raises(RecipeError, match="--prices goes with a judge at a server"):
        JudgingRun(bench, JudgingRequest(first_n=1), JudgeChoice("mock"), prices=prices).plan()
    with pytest.raises(RecipeError, match="--batch-out goes with --judge batch"):
        JudgingRun(bench, JudgingRequest(first_n=1), JudgeChoice("mock")).write_batch(tmp_path / "x")


def test_people_label_a_sheet_and_the_rate_follows(bench: BenchFolder, tmp_path: Path):
    """The longer answer, b's, is chosen each time: b wins 6 turns of 6."""
    sheet = tmp_path / "sheet.csv"
    with pytest.raises(RecipeError, match="--mode is single, and people compare pairs"):
        write_human_sheet(bench, JudgingRequest(), sheet=sheet, seed=0)
    told = write_human_sheet(bench, JudgingRequest("pairwise-all", first_n=3), sheet=sheet, seed=0)
    assert told["pairs"] == 6
    rows = list(csv.DictReader(sheet.open(encoding="utf-8")))
    with sheet.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["item", "label"])
        writer.writerows([r["item"], "left" if len(r["left"]) > len(r["right"]) else "right"] for r in rows)
    read_human_labels(bench, labels=sheet, key=tmp_path / "sheet.key.json", name="mira")
    assert len(read_pair(bench.folder / "model_judgment" / "human-mira_pair.jsonl")) == 6
    read_human_labels(bench, labels=sheet, key=tmp_path / "sheet.key.json", name="bo")
    read = read_benchmark(bench.folder)
    found = rate_from(read, "human-mira", RateRequest("b", "a"))
    assert (found.outcomes.num_wins, found.outcomes.signed_rate.mean) == (6, 1.0)
    board = scoreboard(read, settings=BoardSettings(num_resamples=100, num_fits=20))
    assert board.judges == ["human-bo", "human-mira"]
    assert [(pair.position, pair.kin) for pair in board.pair] == [(None, ())] * 2
    assert [(one.num_compared, one.share_equal) for one in board.agreement] == [(6, 1.0)]
    rows = agreement_rows(votes_in((), bench))
    assert {(row["judges"], row["agree"], row["of"]) for row in rows} == {("human and human", 3, 3)}


def test_canaries_are_not_gated(bench: BenchFolder):
    request = JudgingRequest(first_n=3, canaries_of=("b",))
    facts = JudgingRun(bench, request, JudgeChoice("mock", settings=("rule=length",))).judged()
    assert json.loads(Path(str(facts["meta"])).read_text())["inputs"]["sha256"]
    board = scoreboard(read_benchmark(bench.folder), settings=BoardSettings(num_resamples=100))
    assert {table.model for table in failing_tables(board)} == {"a", "b"}
