"""The figures of the embedded judging loop as data, and as the tables that documents show."""

from typing import Literal

from pydantic import Field

from distill.settings import Settings
from eval.mt_bench.checker_agreement import ScoreCheck, WinnerCheck
from eval.results import MISSING, share
from eval.scores import Interval
from eval.speed.figures import markdown_table


class JudgedModel(Settings):
    """A model under every judge; figures by judge."""

    model: str
    right: Interval = Field(description="share of its answers that the checker calls right, by question")
    scores: dict[str, Interval] = Field(description="mean score with its interval, 1 to 10")
    rates: dict[str, Interval] = Field(description="wins less losses against the teacher; empty for the teacher")


class CaughtCanaries(Settings):
    """How often a judge scored worthless answers below the real ones."""

    judge: str
    kind: str
    caught: Interval
    is_caught: bool


class EmbeddedBench(Settings):
    """All judges of one run."""

    format: Literal["embedded-bench"] = "embedded-bench"
    num_questions: int
    num_verdicts: int = Field(description="of all judges and modes")
    judges: tuple[str, ...]
    models: tuple[JudgedModel, ...]
    score_checks: tuple[ScoreCheck, ...]
    winner_checks: tuple[WinnerCheck, ...]
    canaries: tuple[CaughtCanaries, ...]
    reward_accuracy: float = Field(description="of the reward model on held-out pairs")
    num_reward_pairs: int = Field(description="held-out pairs")
    seconds: dict[str, float] = Field(description="wall clock by part of the run")

    def to_markdown(self) -> str:
        """Models under judges, judges against the checker, and where the time went."""
        models = markdown_table(
            ("model", "right (checker)", *_headings(self.judges)),
            [(one.model, share(one.right), *self._cells(one)) for one in self.models],
        )
        winners = {check.judge: check for check in self.winner_checks}
        caught: dict[str, list[str]] = {judge: [] for judge in self.judges}
        for one in self.canaries:
            caught[one.judge].append(f"{one.kind} {100 * one.caught.mean:.0f} %")
        checks = markdown_table(
            (
                "judge",
                "mean score of right / wrong answers",
                "right above wrong",
                "kappa of scores",
                "right answer wins",
                "kappa of winners",
                "canaries caught",
            ),
            [
                (
                    check.judge,
                    f"{_points(check.mean_of_right)} / {_points(check.mean_of_wrong)}",
                    MISSING if check.ranked is None else f"{100 * check.ranked:.0f} %",
                    f"{check.kappa:.2f}",
                    share(winners[check.judge].right_wins),
                    f"{winners[check.judge].kappa:.2f}",
                    ", ".join(caught[check.judge]) or MISSING,
                )
                for check in self.score_checks
            ],
        )
        return f"{models}\n\n{checks}\n\n{self._notes()}\n"

    def _cells(self, one: JudgedModel) -> list[str]:
        cells = []
        for judge in self.judges:
            mean = one.scores.get(judge)
            cells.append(MISSING if mean is None else f"{mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}]")
            cells.append(share(one.rates.get(judge), signed=True))
        return cells

    def _notes(self) -> str:
        first, winner = self.score_checks[0], self.winner_checks[0]
        parts = ", ".join(f"{name} {value:.0f} s" for name, value in self.seconds.items())
        return (
            f"{self.num_questions} questions of two turns, {self.num_verdicts} verdicts. Of {first.num_answers} "
            f"answers {first.num_right} are right; in {winner.num_decided} of {winner.num_pairs} pairs one answer "
            "is right and the other wrong. 50 % and kappa 0 are chance. The reward model is right on "
            f"{100 * self.reward_accuracy:.0f} % of {self.num_reward_pairs} held-out pairs. Time: {parts}."
        )


def _headings(judges: tuple[str, ...]) -> list[str]:
    return [heading for judge in judges for heading in (f"{judge}: score", f"{judge}: wins less losses")]


def _points(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"
