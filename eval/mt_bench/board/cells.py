"""Tables of text, and figures as a reader sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.results import MISSING
from eval.scores import Interval

Row = dict[str, object]


@dataclass(frozen=True)
class Table:
    """A table: `rows` as `distill.cli_output.print_table` takes them, all of one shape; `notes` stand beneath."""

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def headings(self) -> list[str]:
        """The names of the columns."""
        return list(self.rows[0]) if self.rows else []


def points(value: Interval | None, *, mean: float | None = None, signed: bool = False) -> str:
    """A score with its interval; the mean alone where there is no interval."""
    form = "{:+.2f}" if signed else "{:.2f}"
    if value is None:
        return MISSING if mean is None else form.format(mean)
    told = (form.format(number).replace("-", "−") for number in (value.mean, value.low, value.high))
    return "{} [{}, {}]".format(*told)


def p_value(value: float) -> str:
    """A probability to three digits."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def number(value: float | None) -> str:
    """A coefficient to two digits."""
    return MISSING if value is None else f"{value:.2f}".replace("-", "−")


def better(first: str, second: str, difference: Interval) -> str:
    """Who has the higher mean."""
    return first if difference.mean > 0 else second


def one_shape(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows that all have every column, in the order of the longest."""
    longest: Row = max(rows, key=_num_columns, default={})
    names = list(longest)
    names += [name for name in dict.fromkeys(name for row in rows for name in row) if name not in names]
    return tuple({name: row.get(name, MISSING) for name in names} for row in rows)


def _num_columns(row: Row) -> int:
    return len(row)
