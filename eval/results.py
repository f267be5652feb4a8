"""The result table of a run: one row a model, the figures with their intervals, and the paired comparison."""

from pathlib import Path
from typing import Literal, Self

from distill.files import read_json, write_json
from distill.settings import Settings, validated
from eval.scores import Interval, PairedDifference

KL_TO_STUDENT = "KL to the unquantized student"
HEADINGS = (
    "model",
    "parameters",
    "size on disk",
    "accuracy",
    "preference rate against the teacher",
    "KL to the teacher (nats/token)",
    "tokens/s",
    KL_TO_STUDENT,
)
MISSING = "–"


class ResultRow(Settings):
    """The figures of one model; None stands for what was not measured or does not apply."""

    model: str
    kind: Literal["teacher", "student", "export"]
    num_parameters: int | None = None
    size_bytes: int | None = None
    accuracy: Interval | None = None
    personality_accuracy: Interval | None = None
    preference_rate: Interval | None = None
    kl_to_teacher_nats: float | None = None
    kl_standard_error_nats: float | None = None
    kl_to_student_nats: float | None = None
    tokens_per_s: float | None = None

    def cells(self) -> tuple[str, ...]:
        """The row as text, one cell for each of `HEADINGS`."""
        return (
            self.model,
            count(self.num_parameters),
            megabytes(self.size_bytes),
            share(self.accuracy),
            share(self.preference_rate, signed=True),
            plus_minus(self.kl_to_teacher_nats, self.kl_standard_error_nats),
            MISSING if self.tokens_per_s is None else f"{self.tokens_per_s:,.0f}",
            small_number(self.kl_to_student_nats),
        )


class Comparison(Settings):
    """Two models on the same questions: the paired difference of their accuracies."""

    first: str
    second: str
    difference: Interval
    p_value: float
    num_questions: int
    level: float = 0.95

    @classmethod
    def of(cls, paired: PairedDifference, *, first: str, second: str) -> Self:
        """The comparison of two named models from the paired difference of their answers."""
        return cls(
            first=first,
            second=second,
            difference=paired.difference,
            p_value=paired.p_value,
            num_questions=paired.num_clusters,
        )

    @property
    def includes_zero(self) -> bool:
        """Whether the interval allows that the two are equal."""
        return self.difference.low <= 0.0 <= self.difference.high

    def sentence(self) -> str:
        """The comparison in words; says so when the interval includes 0."""
        points = (f"{100 * value:+.1f}" for value in (self.difference.mean, self.difference.low, self.difference.high))
        mean, low, high = (text.replace("-", "−") for text in points)
        verdict = (
            "the interval includes 0, so these questions do not tell the two apart"
            if self.includes_zero
            else f"the interval excludes 0, so {self.first if self.difference.mean > 0 else self.second} is better"
        )
        return (
            f"{self.first} minus {self.second}: {mean} points of accuracy, paired {100 * self.level:.0f} % interval"
            f" [{low}, {high}] over {self.num_questions:,} questions (permutation p = {self.p_value:.3f}); {verdict}."
        )


class ResultTable(Settings):
    """All rows of a run, teacher first, with the comparisons between students."""

    format: Literal["distill-results"] = "distill-results"
    version: Literal[1] = 1
    rows: tuple[ResultRow, ...]
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        """Those of `HEADINGS` that the table shows: the exports' own column only where there are exports."""
        has_exports = any(row.kl_to_student_nats is not None for row in self.rows)
        return HEADINGS if has_exports else HEADINGS[:-1]

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text, one cell for each heading."""
        return [row.cells()[: len(self.headings)] for row in self.rows]

    def sentences(self) -> list[str]:
        """What stands under the table: the comparisons, and personality accuracies where they were measured."""
        measured = [f"{row.model} {share(row.personality_accuracy)}" for row in self.rows if row.personality_accuracy]
        personality = (
            ["Accuracy in the asked personality's own words: " + "; ".join(measured) + "."] if measured else []
        )
        return [comparison.sentence() for comparison in self.comparisons] + personality

    def to_markdown(self) -> str:
        """The table and the sentences under it as Markdown."""
        lines = ["| " + " | ".join(self.headings) + " |", "|" + "---|" * len(self.headings)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in self.cells()]
        return "\n".join([*lines, *(f"\n{sentence}" for sentence in self.sentences())]) + "\n"


def write_results(path: Path, table: ResultTable) -> None:
    """Writes the table as JSON, whole or not at all."""
    write_json(path, table.model_dump(mode="json"))


def read_results(path: Path) -> ResultTable:
    """Reads a table back.

    Raises:
        DataError: the file is missing or not JSON.
        RecipeError: the file is not a result table; names the key.
    """
    return validated(ResultTable, read_json(path), source=str(path))


def count(value: int | None) -> str:
    """A number of parameters, to three digits: 640 k, 4.21 M, 7.62 B."""
    if value is None:
        return MISSING
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def megabytes(size_bytes: int | None) -> str:
    """A size in megabytes of 10^6 bytes, in gigabytes from a thousand of them on."""
    if size_bytes is None:
        return MISSING
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 10**9 else f"{size_bytes / 1e6:.2f} MB"


def share(value: Interval | None, *, signed: bool = False) -> str:
    """A share with its interval, in per cent."""
    if value is None:
        return MISSING
    form = "{:+.1f}" if signed else "{:.1f}"
    mean, low, high = (form.format(100 * number).replace("-", "−") for number in (value.mean, value.low, value.high))
    return f"{mean} % [{low}, {high}]"


def small_number(value: float | None) -> str:
    """A figure that may span orders of magnitude, to three digits."""
    return MISSING if value is None else f"{value:.3g}"


def plus_minus(mean: float | None, standard_error: float | None) -> str:
    """A mean and its standard error."""
    if mean is None:
        return MISSING
    return f"{mean:.4f}" if standard_error is None else f"{mean:.4f} ± {standard_error:.4f}"
