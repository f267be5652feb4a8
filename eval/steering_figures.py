"""The figures of steered decoding as data, and as the tables that documents show."""

from pathlib import Path
from typing import Literal

from distill.files import read_json
from distill.settings import Settings, validated
from eval.results import MISSING, share
from eval.scores import Interval
from eval.speed.figures import Spread, markdown_table

PROMPTING, NO_PRINCIPLE = "prompting alone", "no principle"
HEADINGS = (
    "decoding",
    "personality accuracy",
    "points over prompting",
    "scenario accuracy",
    "both",
    "ms/token",
    "cost against prompting",
)


class SteeringArm(Settings):
    """One way to decode, on the same questions as all others.

    `personality`: answers that speak as the asked personality and no other. `scenario`: answers that are right in
    anyone's words. `difference` and `differences` (by personality) are personality accuracy minus that of prompting
    alone, question by question; None for prompting alone itself.
    """

    name: str
    ratio: float | None = None
    norm_budget: float | None = None
    personality: Interval
    scenario: Interval
    both: Interval
    difference: Interval | None = None
    by_personality: dict[str, Interval]
    differences: dict[str, Interval]
    ms_per_token: Spread | None = None
    cost: Spread | None = None

    def cells(self) -> tuple[str, ...]:
        """The row as text, one cell for each of `HEADINGS`."""
        return (
            self.name,
            share(self.personality),
            MISSING if self.difference is None else points(self.difference),
            share(self.scenario),
            share(self.both),
            MISSING if self.ms_per_token is None else f"{self.ms_per_token.median:.2f}",
            MISSING if self.cost is None else f"{self.cost.text()} x",
        )


class SteeringFigures(Settings):
    """Decoding without a principle, with it in the prompt, and steered by it."""

    format: Literal["linear-alignment"] = "linear-alignment"
    described: str
    arms: tuple[SteeringArm, ...]

    def to_markdown(self) -> str:
        """What was done, the table, and personality accuracy by personality."""
        parts = [f"{self.described}:"]
        for title, rows in self.tables().items():
            parts.append(f"{title[0].upper()}{title[1:]}:")
            parts.append(markdown_table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
        return "\n\n".join(parts) + "\n"

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """Rows by heading, by what the table is about."""
        names = sorted({name for arm in self.arms for name in arm.by_personality})
        by_personality = [
            {"decoding": arm.name, **{name: _of_personality(arm, name) for name in names}} for arm in self.arms
        ]
        return {
            "steering": [dict(zip(HEADINGS, arm.cells(), strict=True)) for arm in self.arms],
            "personality accuracy by personality, in brackets the points over prompting alone": by_personality,
        }


def read_steering(path: Path) -> SteeringFigures:
    """Reads a stage's figures back."""
    return validated(SteeringFigures, read_json(path), source=str(path))


def points(difference: Interval) -> str:
    """A difference of shares in points, with its interval."""
    values = (100 * value for value in (difference.mean, difference.low, difference.high))
    mean, low, high = (f"{value:+.1f}".replace("-", "−") for value in values)
    return f"{mean} [{low}, {high}]"


def _of_personality(arm: SteeringArm, name: str) -> str:
    mean = f"{100 * arm.by_personality[name].mean:.1f} %"
    return f"{mean} ({points(arm.differences[name])})" if name in arm.differences else mean
