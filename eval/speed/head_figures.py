"""The figures of fused heads beside the bare products as data, and as the tables that documents show."""

from typing import Literal

from distill.settings import Settings
from eval.speed.figures import MISSING, Spread, markdown_table

MIB = 2**20
STEP_HEADINGS = (
    "student",
    "useful tokens/s",
    "seconds a step",
    "TFLOP/s",
    "of a product's",
    "of the stated peak",
    "memory, MiB",
)


class HeadRow(Settings):
    """One way from hidden states to a loss and its gradients.

    `over_products` is its time over that of the products it cannot do without, run next to it: 1 means that loss and
    softmax are free. `size_bytes` is the peak of memory above what inputs and gradients' places take.
    """

    name: str
    family: str
    origin: Literal["ours", "peer", "products"]
    elapsed_ms: Spread
    over_products: Spread | None
    size_bytes: int
    loss: float | None

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.name,
            self.elapsed_ms.text("{:,.1f}"),
            MISSING if self.over_products is None else self.over_products.text(),
            f"{self.size_bytes / MIB:,.0f}",
        )


class LargeStep(Settings):
    """Training steps of a large student.

    `needed_flops_per_s` counts what no trainer can do without; `peak_share` is its share of the largest matrix
    product's speed in the same run, `vendor_share` of the figure that the maker of the device states.
    """

    name: str
    tokens_per_s: Spread
    step_s: Spread
    needed_flops_per_s: Spread
    product_flops_per_s: float
    vendor_flops_per_s: float | None
    size_bytes: int

    @property
    def peak_share(self) -> float:
        """Of the product's speed."""
        return self.needed_flops_per_s.median / self.product_flops_per_s

    @property
    def vendor_share(self) -> float | None:
        """Of the maker's figure."""
        return None if self.vendor_flops_per_s is None else self.needed_flops_per_s.median / self.vendor_flops_per_s

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.name,
            self.tokens_per_s.text("{:,.0f}"),
            self.step_s.text("{:.3f}"),
            f"{self.needed_flops_per_s.median / 1e12:,.2f}",
            f"{100 * self.peak_share:.0f} %",
            MISSING if self.vendor_share is None else f"{100 * self.vendor_share:.0f} %",
            f"{self.size_bytes / MIB:,.0f}",
        )


class HeadSpeed(Settings):
    """Heads and large steps, with the shapes they were measured at."""

    format: Literal["head-speed"] = "head-speed"
    shape: str
    device: str
    rows: tuple[HeadRow, ...] = ()
    steps_described: str = ""
    steps: tuple[LargeStep, ...] = ()
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """A table a family, one of the steps, and the notes."""
        parts = []
        for family in dict.fromkeys(row.family for row in self.rows):
            measures = (f"{family}, forward and backward", "ms", "of the products' time", "memory, MiB")
            rows = [row.cells() for row in self.rows if row.family == family]
            parts += [f"{self.shape} ({self.device}):", markdown_table(measures, rows)]
        if self.steps:
            table = markdown_table(STEP_HEADINGS, [step.cells() for step in self.steps])
            parts += [f"{self.steps_described} ({self.device}):", table]
        if self.notes:
            parts.append("\n".join(f"{note}." for note in self.notes))
        return "\n\n".join(parts) + "\n"
