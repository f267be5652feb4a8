import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distill.errors import DataError
from eval.agreement import GPT4_PAIR, HUMAN, Vote, agreement, write_votes
from eval.mt_bench.judgments import PairJudgment, SingleJudgment, read_single, write_pair, write_single
from eval.mt_bench.questions import read_questions
from eval.mt_bench.show import fastchat_pair, fastchat_single


def single(model: str, score: float | None, *, turn: int = 1, question_id: int = 1) -> SingleJudgment:
    return SingleJudgment(question_id, model, ("judge", "single-v1"), "p", f"[[{score}]]", score, turn, 1.0)


def pair(first: str, second: str, g1: str, g2: str, *, question_id: int = 1) -> PairJudgment:
    return PairJudgment(question_id, first, second, g1, g2, ("judge", "pair-v2"), "p", "t", "q", "u", 1, 1.0)


SINGLES = [
    single("org/a", 7),
    single("org/a", 5.5, turn=2),
    single("org/a", -1, turn=2, question_id=2),
    single("b", 9),
    single("b", 3, turn=2),
    single("b", 1 / 3, turn=2, question_id=2),
    single("failed", -1),
]
PAIRS = [
    pair("org/a", "base", "model_1", "model_1"),
    pair("org/a", "base", "model_1", "model_2", question_id=2),
    pair("org/a", "base", "tie", "tie", question_id=3),
    pair("org/a", "base", "error", "model_1", question_id=4),
    pair("b", "base", "model_2", "model_2"),
    pair("b", "base", "model_1", "tie", question_id=2),
    pair("base", "c", "model_2", "model_2"),
    pair("org/a", "b", "model_1", "model_1", question_id=5),
]
VOTES = [
    Vote("gpt4_pair", "a", "b", 1, 1, "model_a"),
    Vote("expert_1", "a", "b", 1, 1, "model_a"),
    Vote("expert_2", "b", "a", 1, 1, "model_a"),
    Vote("expert_3", "a", "b", 1, 1, "tie"),
    Vote("gpt4_pair", "a", "b", 1, 2, "tie"),
    Vote("gpt4_pair", "b", "a", 2, 2, "model_b"),
    Vote("expert_1", "a", "b", 1, 2, "tie"),
    Vote("expert_1", "a", "b", 2, 2, "model_a"),
    Vote("expert_2", "a", "b", 2, 2, "model_b"),
]


def test_failed_rows_are_left_out_of_every_mean_as_fastchat_does(caplog):
    """org/a: (7 + 5.5) / 2, its third row is -1; the model without any score is last and has no mean."""
    scores = fastchat_single(SINGLES, categories={1: "math"})
    assert [score.model for score in scores] == ["org/a", "b", "failed"]
    first, second, failed = scores
    assert (first.num_rows, first.num_failed, first.average.value, first.average.count) == (3, 1, 6.25, 2)
    assert {turn: mean.value for turn, mean in first.by_turn.items()} == {1: 7.0, 2: 5.5}
    assert second.by_category["math"].value == 6.0
    assert (failed.num_failed, failed.average, failed.by_turn) == (1, None, {})
    assert "org/a: 1 of 3 rows failed and are left out" in caplog.text
    assert [score.model for score in fastchat_single(SINGLES, models=["b"])] == ["b"]


def test_rows_judged_twice_count_twice_as_in_fastchat_and_are_told(caplog):
    (score,) = fastchat_single([single("a", 9), single("a", 9), single("a", 3, question_id=2)])
    assert score.average.value == 7.0
    assert "a: 1 rows repeat others and count again" in caplog.text


def test_games_that_differ_are_ties_and_errors_are_left_out_as_fastchat_does():
    rates = {rate.model: rate for rate in fastchat_pair(PAIRS, baseline="base")}
    assert list(rates) == ["c", "org/a", "b"]
    assert (rates["org/a"].num_wins, rates["org/a"].num_losses, rates["org/a"].num_ties) == (1, 0, 2)
    assert (rates["org/a"].win_rate, rates["org/a"].loss_rate, rates["org/a"].win_rate_adjusted) == (1 / 3, 0.0, 2 / 3)
    assert (rates["b"].num_losses, rates["b"].num_ties) == (1, 1)
    everything = {rate.model: rate for rate in fastchat_pair(PAIRS, baseline=None)}
    assert (everything["base"].num_rows, everything["b"].num_losses) == (6, 2)
    assert [rate.model for rate in fastchat_pair(PAIRS, baseline="base", models=["b"])] == ["b"]


def test_a_baseline_nobody_met_is_refused():
    with pytest.raises(DataError, match=r"no decided row against gpt-3\.5-turbo is left"):
        fastchat_pair(PAIRS)
    with pytest.raises(DataError, match="no decided row is left"):
        fastchat_pair([pair("a", "b", "error", "tie")], baseline=None)


def test_the_public_files_give_fastchats_own_figures(public_mt_bench: Path):
    expected = json.loads((public_mt_bench / "EXPECTED.json").read_text())["single"]
    questions = read_questions(public_mt_bench / "official" / "mt_bench" / "question.jsonl")
    categories = {question.question_id: question.category for question in questions}
    for name, models in expected.items():
        scores = {
            score.model: score for score in fastchat_single(read_single(public_mt_bench / name), categories=categories)
        }
        assert set(scores) == set(models)
        for model, figures in models.items():
            score = scores[model]
            assert (score.num_rows, score.num_failed) == (figures["rows"], figures["errors"])
            assert (score.by_turn[1].count, score.by_turn[2].count) == (figures["turn1_n"], figures["turn2_n"])
            means = [score.average.value, score.by_turn[1].value, score.by_turn[2].value]
            assert means == pytest.approx([figures["avg"], figures["turn1_mean"], figures["turn2_mean"]], abs=1e-9)
            by_category = {category: mean.value for category, mean in score.by_category.items()}
            assert by_category == pytest.approx(figures["by_category"], abs=1e-9)


DRIVER = """
import runpy, sys
import pandas
pandas.set_option("display.precision", 15, "display.width", 500, "display.max_columns", 20)
folder = sys.argv[1]
for name, *arguments in (
    ("show_result", "--mode", "single", "--input-file", "judge_single.jsonl"),
    ("show_result", "--mode", "pairwise-baseline", "--baseline-model", "base", "--input-file", "judge_pair.jsonl"),
    ("show_result", "--mode", "pairwise-all", "--input-file", "judge_pair.jsonl"),
    ("compute_agreement", "--judges", "gpt4-pair", "human", "--votefiles", "votes.json"),
    ("compute_agreement", "--judges", "human", "human", "--votefiles", "votes.json"),
):
    print("=====")
    sys.argv = [name, *arguments]
    runpy.run_path(f"{folder}/{name}.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def fastchats_word(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What FastChat's unmodified programs print about files we wrote."""
    found = importlib.util.find_spec("fastchat")
    if found is None or not found.submodule_search_locations:
        pytest.skip("fastchat is not installed (pip install -e '.[test]')")
    folder = tmp_path_factory.mktemp("fastchat")
    write_single(folder / "judge_single.jsonl", SINGLES)
    write_pair(folder / "judge_pair.jsonl", PAIRS)
    write_votes(folder / "votes.json", VOTES)
    programs = Path(found.submodule_search_locations[0]) / "llm_judge"
    run = subprocess.run(
        [sys.executable, "-c", DRIVER, str(programs)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split("=====\n")[1:]


@pytest.mark.slow  # starts Python with pandas, once for all three
def test_fastchats_own_show_result_reads_our_single_file_and_prints_our_figures(fastchats_word: list[str]):
    blocks = re.split(r"#{5,} .* #{5,}\n", fastchats_word[0])[1:]
    scores = [score for score in fastchat_single(SINGLES) if score.average is not None]
    for turn, block in zip((1, 2), blocks, strict=False):
        ours = {score.model: score.by_turn[turn].value for score in scores}
        assert {row[0]: float(row[2]) for row in _rows(block, 3)} == pytest.approx(ours, abs=1e-12)
    assert [row[0] for row in _rows(blocks[2], 2)] == [score.model for score in scores]
    ours = {score.model: score.average.value for score in scores}
    assert {row[0]: float(row[1]) for row in _rows(blocks[2], 2)} == pytest.approx(ours, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("position", "baseline"), [(1, "base"), (2, None)])
def test_fastchats_own_show_result_reads_our_pair_file_and_prints_our_figures(fastchats_word, position, baseline):
    theirs = {row[0]: [float(cell) for cell in row[1:]] for row in _rows(fastchats_word[position], 7)}
    ours = {
        rate.model: [
            rate.num_wins,
            rate.num_losses,
            rate.num_ties,
            rate.win_rate,
            rate.loss_rate,
            rate.win_rate_adjusted,
        ]
        for rate in fastchat_pair(PAIRS, baseline=baseline)
    }
    assert set(theirs) == set(ours)
    for model, figures in ours.items():
        assert theirs[model] == pytest.approx(figures, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("position", "first"), [(3, GPT4_PAIR), (4, HUMAN)])
def test_fastchats_own_compute_agreement_reads_our_votes_and_counts_the_same(fastchats_word, position, first):
    theirs = re.findall(r"turn (\d) (with|without) tie\. #total: (\d+), #agree: (\d+)", fastchats_word[position])
    assert len(theirs) == 4
    for turn, ties, total, agree in theirs:
        ours = agreement(VOTES, first, HUMAN, turn=int(turn), with_ties=ties == "with")
        assert (ours.num_agree, ours.num_total) == (int(agree), int(total))


def _rows(block: str, num_cells: int) -> list[list[str]]:
    """The lines of a printed table that end in a number and have all its cells."""
    rows = [line.split() for line in block.splitlines()]
    return [row for row in rows if len(row) == num_cells and re.fullmatch(r"\d+(\.\d+)?", row[-1])]
