import pytest

from eval.mt_bench.checker_agreement import ScoreCheck, WinnerCheck
from eval.mt_bench.embedded_figures import CaughtCanaries, EmbeddedBench, JudgedModel
from eval.results import MISSING
from eval.scores import Interval

HALF = Interval(0.5, 0.4, 0.6)


@pytest.fixture
def figures() -> EmbeddedBench:
    """A teacher, which is not held against itself, and a student; no answer is right, so that nothing can be ranked."""
    score = ScoreCheck(
        judge="j", num_answers=8, num_right=0, mean_of_right=None, mean_of_wrong=4.25, ranked=None, kappa=0.125
    )
    return EmbeddedBench(
        num_questions=2,
        num_verdicts=16,
        judges=("j",),
        models=(
            JudgedModel(model="teacher", right=HALF, scores={"j": Interval(7.0, 6.5, 7.5)}, rates={}),
            JudgedModel(model="student", right=HALF, scores={}, rates={"j": Interval(-0.25, -0.5, 0.0)}),
        ),
        score_checks=(score,),
        winner_checks=(WinnerCheck(judge="j", num_pairs=4, num_decided=3, right_wins=HALF, kappa=0.5),),
        canaries=(
            CaughtCanaries(judge="j", kind="empty", caught=HALF, is_caught=False),
            CaughtCanaries(judge="j", kind="constant", caught=Interval(1.0, 0.9, 1.0), is_caught=True),
        ),
        reward_accuracy=0.69,
        num_reward_pairs=404,
        seconds={"answers": 1.4, "page": 20.6},
    )


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_every_row_has_a_cell_for_each_heading(figures: EmbeddedBench):
    rows = [cells(line) for line in figures.to_markdown().splitlines() if line.startswith("|")]
    assert [len(row) for row in rows] == [4] * 4 + [7] * 3
    assert rows[2] == ["teacher", "50.0 % [40.0, 60.0]", "7.00 [6.50, 7.50]", MISSING]
    assert rows[3] == ["student", "50.0 % [40.0, 60.0]", MISSING, "−25.0 % [−50.0, +0.0]"]


def test_what_could_not_be_measured_is_a_dash_and_no_number(figures: EmbeddedBench):
    row = cells(next(line for line in figures.to_markdown().splitlines() if line.startswith("| j ")))
    assert row[1:4] == [f"{MISSING} / 4.25", MISSING, "0.12"]
    assert row[6] == "empty 50 %, constant 100 %"
    uncaught = figures.model_copy(update={"canaries": ()})
    assert f"| {MISSING} |" in uncaught.to_markdown()


def test_the_notes_say_what_was_counted(figures: EmbeddedBench):
    notes = figures.to_markdown().splitlines()[-1]
    assert "2 questions of two turns, 16 verdicts. Of 8 answers 0 are right; in 3 of 4 pairs" in notes
    assert "right on 69 % of 404 held-out pairs. Time: answers 1 s, page 21 s." in notes


def test_the_file_reads_back_as_it_was(figures: EmbeddedBench):
    assert EmbeddedBench.model_validate_json(figures.model_dump_json()) == figures
