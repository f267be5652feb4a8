import json
from pathlib import Path

import pytest

from distill.errors import DataError
from eval.mt_bench.judgments import (
    PairJudgment,
    SingleJudgment,
    read_pair,
    read_single,
    stored_score,
    stored_winner,
    write_pair,
    write_single,
)
from eval.mt_bench.verdicts import Verdict

SINGLE = SingleJudgment(
    question_id=3,
    model="org/small",
    judge=("judge", "single-v1"),
    user_prompt="[Question]\nWhy “so”?",
    judgment="Fair.\n\nRating: [[7]]",
    score=7,
    turn=1,
    tstamp=1.5,
)
SINGLE_LINE = (
    '{"question_id": 3, "model": "org/small", "judge": ["judge", "single-v1"], "user_prompt": "[Question]\\nWhy “so”?",'
    ' "judgment": "Fair.\\n\\nRating: [[7]]", "score": 7, "turn": 1, "tstamp": 1.5}\n'
)
PAIR = PairJudgment(
    question_id=3,
    model_1="small",
    model_2="large",
    g1_winner="model_2",
    g2_winner="tie",
    judge=("judge", "pair-v2-multi-turn"),
    g1_user_prompt="small, large",
    g1_judgment="[[B]]",
    g2_user_prompt="large, small",
    g2_judgment="[[C]]",
    turn=2,
    tstamp=2.5,
)
PAIR_LINE = (
    '{"question_id": 3, "model_1": "small", "model_2": "large", "g1_winner": "model_2", "g2_winner": "tie",'
    ' "judge": ["judge", "pair-v2-multi-turn"], "g1_user_prompt": "small, large", "g1_judgment": "[[B]]",'
    ' "g2_user_prompt": "large, small", "g2_judgment": "[[C]]", "turn": 2, "tstamp": 2.5}\n'
)


def test_a_single_judgment_is_written_as_fastchats_line_and_read_back(tmp_path: Path):
    write_single(tmp_path / "judge_single.jsonl", [SINGLE])
    assert (tmp_path / "judge_single.jsonl").read_text(encoding="utf-8") == SINGLE_LINE
    assert read_single(tmp_path / "judge_single.jsonl") == [SINGLE]


def test_a_pair_judgment_is_written_as_fastchats_line_and_read_back(tmp_path: Path):
    write_pair(tmp_path / "judge_pair.jsonl", [PAIR])
    assert (tmp_path / "judge_pair.jsonl").read_text(encoding="utf-8") == PAIR_LINE
    assert read_pair(tmp_path / "judge_pair.jsonl") == [PAIR]


def test_the_written_order_does_not_depend_on_the_given_one(tmp_path: Path):
    singles = [
        SingleJudgment(question_id, model, ("j", "p"), None, None, 1, turn, None)
        for model, question_id, turn in [("a", 1, 1), ("a", 1, 2), ("a", 2, 1), ("b", 1, 1)]
    ]
    write_single(tmp_path / "s.jsonl", reversed(singles))
    assert read_single(tmp_path / "s.jsonl") == singles
    pairs = [
        PairJudgment(question_id, "a", other, "tie", "tie", ("j", "p"), None, None, None, None, turn, None)
        for question_id, turn, other in [(1, 1, "b"), (1, 1, "c"), (1, 2, "b"), (2, 1, "b")]
    ]
    write_pair(tmp_path / "p.jsonl", reversed(pairs))
    assert read_pair(tmp_path / "p.jsonl") == pairs


@pytest.mark.parametrize(
    "row",
    [
        {"question_id": 1, "model": "a", "score": -1, "turn": 1},
        {"question_id": 1, "model": "a", "score": None, "turn": 2},
        {"question_id": 1, "model": "a", "score": 7.5, "turn": 1, "judge": ["gpt-4"], "cost": {"usd": 1}},
    ],
)
def test_a_single_row_of_another_hand_survives_the_round_trip(tmp_path: Path, row):
    path = tmp_path / "judge_single.jsonl"
    path.write_text(json.dumps(row) + "\n")
    write_single(path, read_single(path))
    assert json.loads(path.read_text()) == row


@pytest.mark.parametrize(
    ("row", "games"),
    [
        ({"winner": "inconsistent", "g1_judgment": "[[A]]", "g2_judgment": "[[A]]"}, ("model_1", "model_2")),
        ({"winner": "model_2", "judge": ["gpt-4", "pair-v2"]}, ("model_2", "model_2")),
        ({"g1_winner": "tie", "g2_winner": "tie", "m1_score": 7, "m2_score": 7.0}, ("tie", "tie")),
        ({"g1_winner": "error", "g2_winner": "model_1", "turn": 1, "note": "x"}, ("error", "model_1")),
    ],
)
def test_an_old_pair_row_survives_the_round_trip_and_tells_both_games(tmp_path: Path, row, games):
    path = tmp_path / "judge_pair.jsonl"
    path.write_text(json.dumps({"question_id": 1, "model_1": "a", "model_2": "b", **row}) + "\n")
    rows = read_pair(path)
    assert rows[0].games == games
    write_pair(path, rows)
    assert json.loads(path.read_text()) == {"question_id": 1, "model_1": "a", "model_2": "b", **row}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_id": "3"}, r"jsonl:1: question_id is '3'"),
        ({"question_id": True}, r"jsonl:1: question_id is True"),
        ({"model": ""}, r"jsonl:1: model is ''"),
        ({"turn": None}, r"jsonl:1: turn is None"),
        ({"score": "7"}, r"jsonl:1: score is '7'"),
        ({"score": float("nan")}, r"jsonl:1: score is nan"),
        ({"judge": "gpt-4"}, r"jsonl:1: judge is 'gpt-4'"),
        ({"judgment": 7}, r"jsonl:1: judgment is 7"),
    ],
)
def test_a_wrong_single_row_is_refused_by_file_and_line(tmp_path: Path, change, message):
    path = tmp_path / "judge_single.jsonl"
    path.write_text(json.dumps({**json.loads(SINGLE_LINE), **change}) + "\n")
    with pytest.raises(DataError, match=message):
        read_single(path)


def test_a_single_row_without_a_score_is_refused(tmp_path: Path):
    (tmp_path / "judge_single.jsonl").write_text('{"question_id": 1, "model": "a", "turn": 1}\n')
    with pytest.raises(DataError, match=r"jsonl:1: score is missing"):
        read_single(tmp_path / "judge_single.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"g1_winner": "A"}, r"jsonl:1: g1_winner is 'A'(?s:.*)known are model_1, model_2, tie, error"),
        ({"g2_winner": None}, r"jsonl:1: (?s:.*)the winners of both games were expected"),
        ({"winner": "both"}, r"jsonl:1: winner is 'both'"),
        ({"model_2": None}, r"jsonl:1: model_2 is None"),
    ],
)
def test_a_wrong_pair_row_is_refused_by_file_and_line(tmp_path: Path, change, message):
    path = tmp_path / "judge_pair.jsonl"
    path.write_text(json.dumps({**json.loads(PAIR_LINE), **change}) + "\n")
    with pytest.raises(DataError, match=message):
        read_pair(path)


def test_a_file_without_judgments_is_refused(tmp_path: Path):
    (tmp_path / "empty.jsonl").write_text("\n")
    for read in (read_single, read_pair):
        with pytest.raises(DataError, match="holds no judgment"):
            read(tmp_path / "empty.jsonl")


def test_a_verdict_is_stored_in_fastchats_words():
    """In game 2 slot A shows model 2."""
    assert stored_score(Verdict("ok", "", None, score=7.0)) == 7
    assert isinstance(stored_score(Verdict("ok", "", None, score=7.0)), int)
    assert stored_score(Verdict("ambiguous", "", None, score=7.5)) == 7.5
    assert stored_score(Verdict("unscored", "", None)) == -1
    a, tie, nothing = (
        Verdict("ok", "", None, winner="A"),
        Verdict("ok", "", None, winner="tie"),
        Verdict("unscored", "", None),
    )
    b = Verdict("ambiguous", "", None, winner="B")
    assert [stored_winner(verdict, game=1) for verdict in (a, b, tie, nothing)] == [
        "model_1",
        "model_2",
        "tie",
        "error",
    ]
    assert [stored_winner(verdict, game=2) for verdict in (a, b, tie, nothing)] == [
        "model_2",
        "model_1",
        "tie",
        "error",
    ]


def test_the_public_files_of_judgments_survive_the_round_trip(public_mt_bench: Path, tmp_path: Path):
    files = sorted((public_mt_bench / "judgments").rglob("model_judgment/*.jsonl"))
    assert files
    for path in files:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        judgments = read_single(path)
        assert [judgment.to_json() for judgment in judgments] == rows
        write_single(tmp_path / "copy.jsonl", judgments)
        written = (tmp_path / "copy.jsonl").read_text(encoding="utf-8").splitlines()
        assert sorted(written) == sorted(json.dumps(row, ensure_ascii=False) for row in rows)
