import json
from pathlib import Path

import pytest

from distill.errors import DataError
from eval.agreement import GPT4_PAIR, HUMAN, Agreement, Vote, agreement, is_person, read_votes, win_rates, write_votes


@pytest.fixture(scope="module")
def public_votes(public_mt_bench: Path) -> list[Vote]:
    folder = public_mt_bench / "human_judgments"
    return read_votes(folder / "human.jsonl") + read_votes(folder / "gpt4_pair.jsonl")


@pytest.mark.parametrize(
    ("first", "turn", "with_ties", "counts"),
    [
        (GPT4_PAIR, 1, True, (886, 1343)),
        (GPT4_PAIR, 1, False, (727, 859)),
        (GPT4_PAIR, 2, True, (871, 1325)),
        (GPT4_PAIR, 2, False, (731, 864)),
        (HUMAN, 1, True, (454, 721)),
        (HUMAN, 1, False, (388, 479)),
        (HUMAN, 2, True, (471, 707)),
        (HUMAN, 2, False, (388, 474)),
    ],
)
def test_the_counts_behind_table_5_of_zheng_et_al_2023(public_votes, first, turn, with_ties, counts):
    assert agreement(public_votes, first, HUMAN, turn=turn, with_ties=with_ties) == Agreement(*counts)


def test_the_public_win_rates_are_those_recorded_beside_them(public_votes, public_mt_bench: Path):
    expected = json.loads((public_mt_bench / "EXPECTED.json").read_text())["win_rates_tie_half"]
    for name, of_gpt4 in (("gpt4_pair", True), ("human_all", False)):
        votes = [vote for vote in public_votes if (vote.kind == GPT4_PAIR) == of_gpt4]
        for turn in (1, 2):
            rates = win_rates(votes, turn=turn)
            assert {model: [r.wins, r.num_votes, r.rate] for model, r in rates.items()} == expected[
                f"{name}_turn{turn}"
            ]


def vote(judge: str, winner: str, *, models=("x", "y"), question_id: int = 1, turn: int = 1) -> Vote:
    return Vote(judge, *models, question_id, turn, winner)


def test_every_vote_of_one_kind_meets_every_vote_of_the_other():
    """GPT-4 chose x. Experts: x, y, and x named second (the same choice): 2 of 3; an author is no expert."""
    votes = [
        vote("gpt4_pair", "model_a"),
        vote("expert_1", "model_a"),
        vote("expert_2", "model_b"),
        vote("expert_3", "model_b", models=("y", "x")),
        vote("author_1", "model_a"),
        vote("expert_4", "model_a", question_id=2),
        vote("expert_4", "model_a", turn=2),
    ]
    assert agreement(votes, GPT4_PAIR, HUMAN, turn=1, with_ties=True) == Agreement(2, 3)
    assert agreement(votes, HUMAN, HUMAN, turn=1, with_ties=True) == Agreement(1, 3)
    assert agreement(votes, GPT4_PAIR, HUMAN, turn=2, with_ties=True).rate is None


def test_ties_of_every_sort_agree_and_setup_s2_leaves_them_out():
    votes = [vote("expert_1", "tie"), vote("expert_2", "tie"), vote("expert_3", "model_a"), vote("expert_4", "model_a")]
    assert agreement(votes, HUMAN, HUMAN, turn=1, with_ties=True) == Agreement(2, 6)
    assert agreement(votes, HUMAN, HUMAN, turn=1, with_ties=False) == Agreement(1, 1)


@pytest.mark.parametrize("judge", ["expert_3", "human", "human-ann", "human-gpt4"])
def test_people_are_of_one_kind_whatever_they_are_called(judge: str):
    assert Vote(judge, "x", "y", 1, 1, "tie").kind == HUMAN
    assert is_person(judge) == judge.startswith("human")


def test_another_judge_is_a_kind_of_its_own():
    votes = [vote("local", "model_a"), vote("expert_1", "model_a")]
    assert agreement(votes, "local", HUMAN, turn=1, with_ties=False) == Agreement(1, 1)


def test_a_tie_is_half_a_win_to_both():
    rates = win_rates([vote("a", "model_a"), vote("b", "tie"), vote("c", "tie", turn=2)], turn=1)
    assert {model: (rate.wins, rate.num_votes, rate.rate) for model, rate in rates.items()} == {
        "x": (1.5, 2, 0.75),
        "y": (0.5, 2, 0.25),
    }


def test_votes_are_read_from_lines_and_from_one_list(tmp_path: Path):
    row = {
        "judge": ["gpt-4", "pair-v2"],
        "model_a": "x",
        "model_b": "y",
        "question_id": 1,
        "turn": 1,
        "winner": "tie (inconsistent)",
    }
    (tmp_path / "votes.jsonl").write_text(json.dumps(row) + "\n")
    votes = read_votes(tmp_path / "votes.jsonl")
    assert votes == [vote("gpt4_pair", "tie")]
    write_votes(tmp_path / "votes.json", [*votes, vote("expert_1", "model_b")])
    assert read_votes(tmp_path / "votes.json") == [*votes, vote("expert_1", "model_b")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judge": []}, r"votes\.jsonl:1: judge is \[\]"),
        ({"winner": "x"}, r"votes\.jsonl:1: winner is 'x'"),
        ({"winner": None}, r"votes\.jsonl:1: winner is None"),
        ({"turn": "1"}, r"votes\.jsonl:1: question_id and turn are 1 and '1'"),
        ({"model_b": "x"}, r"votes\.jsonl:1: x meets itself"),
    ],
)
def test_a_wrong_vote_is_refused_by_file_and_line(tmp_path: Path, change, message):
    row = {"judge": "expert_1", "model_a": "x", "model_b": "y", "question_id": 1, "turn": 1, "winner": "tie"}
    (tmp_path / "votes.jsonl").write_text(json.dumps({**row, **change}) + "\n")
    with pytest.raises(DataError, match=message):
        read_votes(tmp_path / "votes.jsonl")


@pytest.mark.parametrize(
    ("text", "message"), [("\n", "holds no vote"), ("[{]", "is not JSON"), ("[1]", "vote 1 holds a int")]
)
def test_a_file_without_votes_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "votes.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_votes(tmp_path / "votes.json")
    with pytest.raises(DataError, match="does not exist"):
        read_votes(tmp_path / "absent.json")
