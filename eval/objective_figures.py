"""The figures of objectives after equal budgets as data, and as the table that documents show."""

from typing import Literal

from distill.settings import Settings
from eval.results import MISSING, plus_minus, share
from eval.scores import Interval
from eval.speed.figures import markdown_table

HEADINGS = (
    "objective",
    "learns from",
    "learning rate",
    "accuracy",
    "points over the start",
    "KL to the teacher (nats/token)",
    "training, s",
)


class ObjectiveRow(Settings):
    """One student; of teacher and start, what was not trained or compared is None."""

    name: str
    learns_from: str = MISSING
    learning_rate: float | None = None
    accuracy: Interval
    difference: Interval | None = None
    kl_to_teacher_nats: float | None = None
    kl_standard_error_nats: float | None = None
    train_s: float | None = None

    def cells(self) -> tuple[str, ...]:
        """The row as text, one cell for each of `HEADINGS`."""
        return (
            self.name,
            self.learns_from,
            MISSING if self.learning_rate is None else f"{self.learning_rate:g}",
            share(self.accuracy),
            MISSING if self.difference is None else _points(self.difference),
            plus_minus(self.kl_to_teacher_nats, self.kl_standard_error_nats),
            MISSING if self.train_s is None else f"{self.train_s:.0f}",
        )


class RateTrial(Settings):
    """What a family's first objective reached on the valid conversations at one rate."""

    family: str
    name: str
    learning_rate: float
    accuracy: float
    kl_to_teacher_nats: float
    is_chosen: bool


class ObjectiveFigures(Settings):
    """Every objective from one start, with the same pairs, steps and batch."""

    format: Literal["objective-comparison"] = "objective-comparison"
    described: str
    rows: tuple[ObjectiveRow, ...]
    trials: tuple[RateTrial, ...]

    def to_markdown(self) -> str:
        """The work, the table, and how the rates were chosen."""
        parts = [f"{self.described}:", markdown_table(HEADINGS, [row.cells() for row in self.rows])]
        if self.trials:
            parts.append(f"Learning rates, by accuracy on the valid conversations: {'; '.join(self._choices())}.")
        return "\n\n".join(parts) + "\n"

    def _choices(self) -> list[str]:
        families = dict.fromkeys(trial.family for trial in self.trials)
        return [self._choice([trial for trial in self.trials if trial.family == family]) for family in families]

    def _choice(self, trials: list[RateTrial]) -> str:
        tried = ", ".join(
            f"{'**' if trial.is_chosen else ''}{trial.learning_rate:g}{'**' if trial.is_chosen else ''}"
            f" {100 * trial.accuracy:.1f} %"
            for trial in trials
        )
        return f"{trials[0].family} (by {trials[0].name}) {tried}"


def _points(difference: Interval) -> str:
    mean, low, high = (
        f"{100 * value:+.1f}".replace("-", "−") for value in (difference.mean, difference.low, difference.high)
    )
    return f"{mean} [{low}, {high}]"
