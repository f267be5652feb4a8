import pytest

from distill.errors import RecipeError
from eval.mt_bench.board import BoardSettings, all_tables, read_benchmark, scoreboard
from eval.mt_bench.judging import judge_matches
from eval.mt_bench.questions import write_questions
from eval.mt_bench.repeats import Repeated, read_repeats, repeats_file, same_winner, write_repeats
from tests.judge_cases import ScriptedJudge, pairs, question, singles

QUICK = BoardSettings(num_resamples=100, num_fits=20)


def winners(question_id: int, *given: str | None) -> Repeated:
    return Repeated(question_id=question_id, turn=1, models=("a", "b"), winners=given)


def test_the_same_winner_known_answer():
    """Of three games of two verdicts each, one of which lacks one, one of the two others has equal winners."""
    rows = [winners(1, "A", "A"), winners(2, "A", "tie"), winners(3, "B", None)]
    found = same_winner(rows, seed=0, num_resamples=100)
    assert found is not None
    assert (found.num_repeats, found.num_games, found.num_same) == (2, 2, 1)
    assert found.share is not None
    assert found.share.mean == 0.5
    assert same_winner([winners(1, "A")], seed=0, num_resamples=100) is None
    assert same_winner([], seed=0, num_resamples=100) is None


def test_the_file_is_there_only_where_something_was_asked_again(tmp_path):
    path = repeats_file(tmp_path / "gpt-4.1_pair.jsonl")
    assert path.name == "gpt-4.1_pair.repeats.jsonl"
    rows = [winners(1, "A", "tie", None)]
    write_repeats(path, rows)
    assert read_repeats(path) == rows
    write_repeats(path, [])
    assert not path.exists()
    assert read_repeats(path) == []
    path.write_text('{"question_id": 1}')
    with pytest.raises(RecipeError, match=r"gpt-4\.1_pair\.repeats\.jsonl:1: .*turn"):
        read_repeats(path)


def test_a_judge_asked_twice_shows_its_variance_on_the_board(tmp_path):
    """Single: one point more the second time, which is a shift of the run. Pairs: always slot A, then always B."""
    write_questions(tmp_path / "question.jsonl", [question(number) for number in (1, 2)])
    matches, games = singles(2), pairs(2)
    scores = [f"Rating: [[{score}]]" for score in (3, 5, 6, 8, 4, 6, 7, 9)]
    done = judge_matches(ScriptedJudge(*scores), matches, tmp_path, repeats=2)
    judge_matches(ScriptedJudge(*["[[A]]"] * len(games), "[[B]]"), games, tmp_path, repeats=2)
    board = scoreboard(read_benchmark(tmp_path), settings=QUICK)
    [score] = board.single[0].scores
    assert score.num_repeats == 2
    assert score.repeats is not None
    assert score.repeats.between_repeats == pytest.approx(0.5)
    assert score.mean is not None
    assert score.mean.mean == 5.5
    assert board.pair[0].repeats is not None
    assert (board.pair[0].repeats.num_games, board.pair[0].repeats.num_same) == (8, 0)
    assert [table.title for table in all_tables(board) if "asked again" in table.title] == [
        "the judge asked again, judge script"
    ] * 2
    again = repeats_file(done.judgments).read_bytes()
    judge_matches(ScriptedJudge("unasked"), matches, tmp_path, repeats=1)
    assert repeats_file(done.judgments).read_bytes() == again
