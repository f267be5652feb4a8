"""The figures of f-DPG as data, and as the table that documents show: alignment against diversity, per divergence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from distill.files import read_json
from distill.settings import Settings, validated
from eval.alignment_diversity import shown
from eval.scores import Interval
from eval.speed.figures import markdown_table

NUM_DIGITS = 4
DRAWN = ("kl_target_to_policy", "total_variation", "jensen_shannon", "kl_to_base", "entropy")
"""The metrics of a training that its curve keeps, beside the moments."""
MOMENT = "moment "
"""What the name of a moment's metric begins with."""


class FDpgRow(Settings):
    """One model on held-out prompts; intervals of 95 %, resampled by prompt; divergences and entropy in nats."""

    model: str
    moments: dict[str, Interval]
    share_allowed: Interval | None
    reward: Interval | None
    kl_target_to_model: Interval
    total_variation: Interval
    jensen_shannon: Interval
    kl_to_start: Interval
    entropy: Interval
    distinct_answers: Interval
    distinct_bigrams: float


class FDpgCurve(Settings):
    """Metrics of one training, each a number a step, of the step's own answers."""

    model: str
    steps: tuple[int, ...]
    values: dict[str, tuple[float, ...]]


class FDpgFigures(Settings):
    """The rows of all models, the start first, with what the target asks for and the curves of the trainings.

    `wanted` holds each moment's mean, `fitted` its coefficient, `of_target` the mean that the fitted target itself has
    on the held-out prompts.
    """

    format: Literal["f-dpg"] = "f-dpg"
    wanted: dict[str, float]
    fitted: dict[str, float]
    of_target: dict[str, Interval]
    num_prompts: int
    num_samples: int
    rows: tuple[FDpgRow, ...]
    curves: tuple[FDpgCurve, ...] = ()

    @property
    def described(self) -> str:
        """What the table shows."""
        moments = [
            f"{label} of mean {mean:g} (λ {self.fitted[label]:.3f}; the target itself has "
            f"{shown(self.of_target[label])} here)"
            for label, mean in self.wanted.items()
        ]
        wanted = f" Wanted: {', '.join(moments)}." if moments else ""
        return (
            f"{self.num_samples} answers to each of {self.num_prompts} held-out prompts.{wanted} Intervals of 95 %, "
            "resampled by prompt; divergences to the target p and entropy in nats, of whole answers."
        )

    def to_markdown(self) -> str:
        """What was measured, and the table with one row a model."""
        rows = self.table()
        return f"{self.described}\n\n" + markdown_table(tuple(rows[0]), [tuple(row.values()) for row in rows]) + "\n"

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """Rows by heading, by what the table is about."""
        return {"f-DPG": self.table()}

    def table(self) -> list[dict[str, str]]:
        """One row a model, by heading."""
        return [self._cells(row) for row in self.rows]

    def _cells(self, row: FDpgRow) -> dict[str, str]:
        optional = {"allowed": row.share_allowed, "reward": row.reward}
        intervals = {
            **{label: row.moments[label] for label in self.wanted},
            **{name: value for name, value in optional.items() if value is not None},
            "KL(p‖model)": row.kl_target_to_model,
            "TV to p": row.total_variation,
            "JS to p": row.jensen_shannon,
            "KL(model‖start)": row.kl_to_start,
            "entropy": row.entropy,
            "distinct answers": row.distinct_answers,
        }
        cells = {name: shown(interval) for name, interval in intervals.items()}
        return {"model": row.model.replace("_", " "), **cells, "distinct-2": f"{row.distinct_bigrams:.3f}"}


def read_f_dpg(path: Path) -> FDpgFigures:
    """Reads figures back, as the stage wrote them or as they are published."""
    values = read_json(path)
    figures = values.get("figures")
    return validated(FDpgFigures, figures if isinstance(figures, dict) else values, source=str(path))


def curve_of(model: str, rows: Sequence[Mapping[str, float]]) -> FDpgCurve:
    """The curve of a training from its metrics, rounded to four digits."""
    rows = [row for row in rows if all(name in row for name in DRAWN)]
    names = [*DRAWN, *(name for name in (rows[0] if rows else {}) if name.startswith(MOMENT))]
    values = {name: tuple(float(f"{row[name]:.{NUM_DIGITS}g}") for row in rows) for name in names}
    return FDpgCurve(model=model, steps=tuple(int(row["step"]) for row in rows), values=values)
