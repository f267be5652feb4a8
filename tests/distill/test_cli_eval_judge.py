from pathlib import Path

import pytest

from distill.cli_eval_judge import judge
from distill.cli_eval_show import show
from distill.errors import RecipeError
from eval.mt_bench.answer_rows import AnswerRow, Choice, write_answer_rows
from eval.mt_bench.folder import open_bench
from eval.mt_bench.judgments import read_single
from eval.mt_bench.questions import read_questions
from tests.judge_server import judging_server


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """The folder of a benchmark of which the first question is answered."""
    bench = open_bench("two_turns", data=tmp_path)
    first = read_questions(bench.questions)[0].question_id
    write_answer_rows(
        bench.folder / "model_answer" / "m.jsonl", [AnswerRow(first, "x", "m", (Choice(0, ("a", "b")),), 0.0)]
    )
    return bench.folder


def test_a_rubric_judges_from_the_command_line_and_is_shown(answered: Path, capsys: pytest.CaptureFixture[str]):
    """4 of 5 is 7.75 of 10; asked twice of two turns: four calls."""
    with judging_server() as server:
        server.reply = lambda body: ("Plain words. [RESULT] 4", "stop")
        options = {
            "data": answered.parent,
            "judge_model": "j",
            "base_url": server.url,
            "first_n": 1,
            "judge_repeats": 2,
        }
        judge(**options, rubric="clarity")
        assert len(server.requests) == 4
        assert "clear" in server.requests[0]["messages"][-1]["content"]
    rows = read_single(answered / "model_judgment" / "j-rubric-clarity_single.jsonl")
    assert [(row.judge_name, row.score) for row in rows] == [("j-rubric-clarity", 7.75)] * 2
    capsys.readouterr()
    show(data=answered.parent, max_failure_rate=1.0, resamples=100)
    told = capsys.readouterr().out
    assert "judge j-rubric-clarity" in told
    assert "the judge asked again" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rubric": "charm"}, "criterion is 'charm'"),
        ({"rubrics": Path("mine.jsonl")}, "no criterion is named"),
        ({"rubric": "clarity", "mode": "pairwise-all"}, "--mode pairwise-all"),
        ({"rubric": "clarity", "judge_file": Path("short")}, "other judge prompts are named"),
        ({"rubric": "clarity", "kind": "mock"}, "--rubric is clarity, and --judge mock"),
    ],
)
def test_a_rubric_goes_with_single_answers_and_a_judge_that_writes(answered: Path, options: dict, message: str):
    with pytest.raises(RecipeError, match=message):
        judge(data=answered.parent, **options, dry_run=True)


def test_an_unknown_kind_or_mode_is_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match="--mode is both"):
        judge(data=tmp_path, mode="both")
    with pytest.raises(RecipeError, match="--judge is oracle"):
        judge(data=tmp_path, kind="oracle", batch_out=tmp_path / "b.jsonl")
