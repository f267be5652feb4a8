"""The figures of harmlessness as data, and as the tables that documents show."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from distill.files import read_json
from distill.preference.instruction_fates import KEPT, REASONS
from distill.settings import Settings, validated
from eval.results import MISSING, share
from eval.scores import Interval
from eval.speed.figures import markdown_table
from eval.steering_figures import points


class HarmlessnessRow(Settings):
    """One question to the student before and after its training, on the same prompts; shares with 95 % intervals."""

    name: str
    num_prompts: int
    num_clusters: int
    before: Interval
    after: Interval
    difference: Interval | None = None

    def cells(self) -> dict[str, str]:
        """The row by heading."""
        return {
            "measured": self.name,
            "prompts": f"{self.num_prompts} ({self.num_clusters} different)",
            "before": share(self.before),
            "after": share(self.after),
            "points gained": MISSING if self.difference is None else points(self.difference),
        }


class HarmlessnessFigures(Settings):
    """Harmless answers, refusals of ordinary prompts, and what became of the texts that the pairs were made of.

    `fates` counts the lines of the source by what became of them, in the order in which lines are lost; `judge` is the
    tuned judge's share of right verdicts on labelled instructions it did not learn.
    """

    format: Literal["harmlessness"] = "harmlessness"
    rows: tuple[HarmlessnessRow, ...]
    by_kind: tuple[HarmlessnessRow, ...] = ()
    fates: dict[str, int] = Field({})
    judge: Interval | None = None

    @field_validator("fates")
    @classmethod
    def _in_order(cls, fates: dict[str, int]) -> dict[str, int]:
        """As lines are lost; a file has its keys by the alphabet."""
        known = [name for name in (*REASONS, KEPT) if name in fates]
        return {name: fates[name] for name in dict.fromkeys((*known, *fates))}

    @property
    def described(self) -> str:
        """What the tables show."""
        told = "The student before and after it learned the pairs, on the same held-out prompts; intervals of 95 %, "
        told += "resampled by prompt (ordinary ones by conversation), differences paired."
        if self.judge is not None:
            told += f" The judge is right about {share(self.judge)} of labelled instructions that it did not learn."
        return told

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """Rows by heading, by what the table is about."""
        found = {"harmlessness": [row.cells() for row in self.rows]}
        if self.by_kind:
            found["harmless answers by what was asked"] = [row.cells() for row in self.by_kind]
        if self.fates:
            total = sum(self.fates.values())
            found["what became of the texts"] = [
                *(
                    {"lines": name.replace("_", " "), "number": str(count)}
                    for name, count in self.fates.items()
                    if count
                ),
                {"lines": "all", "number": str(total)},
            ]
        return found

    def to_markdown(self) -> str:
        """What was measured, and the tables."""
        parts = [self.described]
        for title, rows in self.tables().items():
            parts.append(f"{title[0].upper()}{title[1:]}:")
            parts.append(markdown_table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
        return "\n\n".join(parts) + "\n"


def read_harmlessness(path: Path) -> HarmlessnessFigures:
    """Reads figures back, as the stage wrote them or as they are published."""
    values = read_json(path)
    own = values.get("figures")
    return validated(HarmlessnessFigures, own if isinstance(own, dict) else values, source=str(path))
