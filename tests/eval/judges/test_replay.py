from dataclasses import replace

import pytest

from distill.errors import DataError
from eval.judges.mock import MockJudge, MockSettings
from eval.judges.replay import ReplayJudge
from eval.mt_bench.judging import judge_matches
from eval.mt_bench.judgments import read_pair, read_single, write_pair, write_single
from eval.mt_bench.matches import single_matches
from tests.judge_cases import answer, judging, pairs, singles

NOISY = MockSettings(rule="length", noise=3)


@pytest.mark.parametrize(("mode", "matches"), [("single", singles(3, ("a", "b"))), ("pair", pairs(3))])
def test_a_replay_gives_the_same_rows(tmp_path, mode, matches):
    old = judge_matches(MockJudge(NOISY), matches, tmp_path / "old", clock=lambda: 5.0)
    replay = ReplayJudge(old.judgments, mode=mode)
    new = judge_matches(replay, matches, tmp_path / "new", clock=lambda: 5.0)
    assert replay.name == "mock-length"
    assert new.judgments.read_bytes() == old.judgments.read_bytes()


def test_rows_of_another_prompt_are_refused(tmp_path):
    old = judge_matches(MockJudge(NOISY), singles(1), tmp_path)
    matches = single_matches(judging("single", answers={"m": {1: answer(1, "m", "changed", "m 1.2")}})).judged
    replies = [reply for _, reply in ReplayJudge(old.judgments, mode="single").judge(matches)]
    assert all("judged another prompt" in (reply.error or "") for reply in replies)


def test_what_the_file_lacks_is_left_out_and_told(tmp_path, caplog):
    old = judge_matches(MockJudge(NOISY), singles(1), tmp_path)
    assert [index for index, _ in ReplayJudge(old.judgments, mode="single").judge(singles(2))] == [0, 2]
    assert "holds no verdict for 2 of 4 matches" in caplog.text


def test_rows_that_repeat_a_key_answer_the_repeats(tmp_path):
    old = judge_matches(MockJudge(NOISY), singles(1), tmp_path)
    first = read_single(old.judgments)[0]
    path = tmp_path / "twice_single.jsonl"
    write_single(path, [first, replace(first, judgment="Rating: [[1]]")])
    match = singles(1)[0]
    asked = [replace(match, repeat=number) for number in range(3)]
    texts = [reply.text for _, reply in ReplayJudge(path, mode="single").judge(asked)]
    assert texts == [first.judgment, "Rating: [[1]]"]


def test_rows_without_words_keep_their_verdict(tmp_path):
    old = judge_matches(MockJudge(NOISY), singles(1), tmp_path)
    path = tmp_path / "scores_single.jsonl"
    rows = read_single(old.judgments)
    write_single(path, [replace(rows[0], judgment=None, score=4.5), replace(rows[1], judgment=None, score=-1)])
    verdicts = [reply.verdict for _, reply in ReplayJudge(path, mode="single").judge(singles(1))]
    assert [(verdict.status, verdict.score) for verdict in verdicts] == [("ok", 4.5), ("unscored", None)]


def test_pairs_without_words_keep_their_verdict_in_each_order(tmp_path):
    old = judge_matches(MockJudge(NOISY), pairs(1), tmp_path)
    path = tmp_path / "old_pair.jsonl"
    row = replace(
        read_pair(old.judgments)[0], g1_judgment=None, g2_judgment=None, g1_winner="model_1", g2_winner="error"
    )
    write_pair(path, [row, replace(row, turn=2, g1_winner="tie", g2_winner="model_1", g1_user_prompt=None)])
    asked = [replace(match) for match in pairs(1)]
    verdicts = {
        (asked[index].turn, asked[index].game): reply.verdict and reply.verdict.winner
        for index, reply in ReplayJudge(path, mode="pair").judge(asked)
    }
    assert {key: verdicts[key] for key in [(1, 1), (1, 2), (2, 1)]} == {(1, 1): "A", (1, 2): None, (2, 1): "tie"}


def test_fastchats_error_text_is_a_failed_call(tmp_path):
    old = judge_matches(MockJudge(NOISY), singles(1), tmp_path)
    path = tmp_path / "broken_single.jsonl"
    write_single(path, [replace(row, judgment="$ERROR$") for row in read_single(old.judgments)])
    replies = [reply for _, reply in ReplayJudge(path, mode="single").judge(singles(1))]
    assert all("the call had failed" in (reply.error or "") for reply in replies)


def test_the_other_mode_is_refused(tmp_path):
    old = judge_matches(MockJudge(NOISY), singles(1), tmp_path)
    with pytest.raises(DataError, match="holds mode single"):
        list(ReplayJudge(old.judgments, mode="single").judge(pairs(1)))
    with pytest.raises(DataError, match="does not exist"):
        ReplayJudge(tmp_path / "absent.jsonl", mode="single")
