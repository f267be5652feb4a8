"""What the benchmark of an export's memory found, as a table."""

from typing import Literal

from distill.settings import Settings
from eval.speed.figures import markdown_table


class MemoryRow(Settings):
    """A job's memory; `ratio` is its peak over the model's size in bfloat16."""

    job: str
    elapsed_s: float
    peak_bytes: int
    file_bytes: int
    ratio: float

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.job,
            f"{self.peak_bytes / 1e6:,.0f}",
            f"{self.file_bytes / 1e6:,.0f}",
            f"{self.ratio:.2f}",
            f"{self.elapsed_s:.0f}",
        )


class ExportMemory(Settings):
    """All jobs on one model."""

    format: Literal["export-memory"] = "export-memory"
    model: str
    num_parameters: int
    bfloat16_bytes: int
    rows: tuple[MemoryRow, ...]

    def to_markdown(self) -> str:
        """A caption and the table."""
        caption = f"{self.model}: {self.bfloat16_bytes / 1e6:,.0f} MB in bfloat16; peaks above the imported libraries"
        headings = ("job", "peak, MB", "of it pages of files, MB", "times the model", "seconds")
        return f"{caption}:\n\n{markdown_table(headings, [row.cells() for row in self.rows])}\n"
