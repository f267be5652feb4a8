"""The figures of trainers side by side as data, and as the tables that documents show."""

from collections.abc import Sequence
from typing import Literal

from distill.settings import Settings
from eval.speed.clock import rates, shares
from eval.speed.figures import MISSING, Spread, markdown_table
from eval.speed.processes import Measured

MIB = 2**20
STEP_HEADINGS = (
    "useful tokens/s",
    "tokens/CPU-s",
    "times as fast",
    "step memory, MiB",
    "of the peer's",
    "peak, MiB",
    "of matmul peak",
)
JOB_HEADINGS = ("job", "seconds", "CPU-seconds", "times as fast", "teacher read, tokens", "peak, MiB")
RERUN_HEADINGS = ("job", "frozen models read, tokens", "at another learning rate", "seconds", "the second time")


class StepRow(Settings):
    """One trainer's steps; ratios are to the peer of its group, round by round, and None for the peer itself.

    Useful tokens are completion tokens and the tokens of each pair's prompt, once. `step_bytes` is the peak of
    resident memory above its level when model and optimizer stood. `peak_share` is the work that a step cannot do
    without, a second, as a share of the largest matrix product's in the same rounds.
    """

    name: str
    group: str
    origin: Literal["ours", "peer"]
    tokens_per_s: Spread
    tokens_per_cpu_s: Spread
    speed_ratio: Spread | None
    step_bytes: int
    raw_bytes: int
    memory_ratio: float | None
    peak_share: Spread
    first_losses: tuple[float, ...]

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.name,
            self.tokens_per_s.text("{:,.0f}"),
            f"{self.tokens_per_cpu_s.median:,.0f}",
            MISSING if self.speed_ratio is None else self.speed_ratio.text(),
            f"{self.step_bytes / MIB:,.0f}",
            MISSING if self.memory_ratio is None else f"{self.memory_ratio:.2f}",
            f"{self.raw_bytes / MIB:,.0f}",
            f"{100 * self.peak_share.median:.0f} %",
        )


class JobRow(Settings):
    """A job from the teacher to trained students; `elapsed_s` of every repeat, the ratio to the peer's."""

    name: str
    origin: Literal["ours", "peer"]
    elapsed_s: Spread
    cpu_s: Spread
    speed_ratio: Spread | None
    teacher_tokens: int
    raw_bytes: int

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.name,
            self.elapsed_s.text("{:,.1f}"),
            f"{self.cpu_s.median:,.1f}",
            MISSING if self.speed_ratio is None else self.speed_ratio.text(),
            f"{self.teacher_tokens:,}",
            f"{self.raw_bytes / MIB:,.0f}",
        )


class RerunRow(Settings):
    """A job, and the same job with another learning rate: what teacher and reference read in each.

    Ours looks at every model with a handful of tokens to recognise its head, whether there is work for it or not.
    """

    name: str
    origin: Literal["ours", "peer"]
    first_frozen_tokens: int
    second_frozen_tokens: int
    first_s: float
    second_s: float

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.name,
            f"{self.first_frozen_tokens:,}",
            f"{self.second_frozen_tokens:,}",
            f"{self.first_s:,.1f}",
            f"{self.second_s:,.1f}",
        )


class TrainSpeed(Settings):
    """Steps, whole jobs and second jobs of trainers on the same work."""

    format: Literal["train-speed"] = "train-speed"
    work: str
    steps_a_turn: int
    largest_loss_difference: float | None
    matmul_flops_per_s: Spread | None
    steps: tuple[StepRow, ...] = ()
    jobs_described: str = ""
    jobs: tuple[JobRow, ...] = ()
    reruns: tuple[RerunRow, ...] = ()
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """The work, a table for each part that was measured, and the notes."""
        parts = [f"{self.work[0].upper()}{self.work[1:]}."]
        if self.steps:
            parts += [
                self._steps_described(),
                *(self._group(group) for group in dict.fromkeys(r.group for r in self.steps)),
            ]
        if self.jobs:
            parts += [f"{self.jobs_described}:", markdown_table(JOB_HEADINGS, [row.cells() for row in self.jobs])]
        if self.reruns:
            parts += [
                "A job, and the same with another learning rate (frozen models: teacher and reference):",
                markdown_table(RERUN_HEADINGS, [row.cells() for row in self.reruns]),
            ]
        if self.notes:
            parts.append("\n".join(f"{note}." for note in self.notes))
        return "\n\n".join(parts) + "\n"

    def _steps_described(self) -> str:
        told = f"Training steps in turns of {self.steps_a_turn}, each trainer in its own process, one at a time"
        if self.largest_loss_difference is not None:
            told += f"; the losses before any update differed by {self.largest_loss_difference:.1g} at most"
        if self.matmul_flops_per_s is not None:
            told += f"; float32 matrix product: {self.matmul_flops_per_s.median / 1e9:,.0f} GFLOP/s"
        return f"{told}."

    def _group(self, group: str) -> str:
        return markdown_table((group, *STEP_HEADINGS), [row.cells() for row in self.steps if row.group == group])


def step_row(
    name: str,
    measured: Measured,
    *,
    group: str,
    peer: Measured | None,
    tokens: Sequence[int],
    flops: Sequence[int],
    matmul_flops_per_s: Sequence[float],
) -> StepRow:
    """The figures of one trainer.

    Args:
        name: of the row.
        measured: its blocks.
        group: what it is compared in.
        peer: whose blocks were measured in turn with these; None for the peer itself, or where there is none.
        tokens: useful ones of each block.
        flops: needed ones of each block.
        matmul_flops_per_s: of each round.
    """
    elapsed_s = [block.elapsed_s for block in measured.blocks]
    return StepRow(
        name=name,
        group=group,
        origin="peer" if name.startswith("TRL") else "ours",
        tokens_per_s=spread_of_rates(tokens, elapsed_s),
        tokens_per_cpu_s=spread_of_rates(tokens, [block.cpu_s for block in measured.blocks]),
        speed_ratio=None if peer is None else shares(elapsed_s, [block.elapsed_s for block in peer.blocks]),
        step_bytes=measured.step_bytes,
        raw_bytes=measured.raw_bytes,
        memory_ratio=None if peer is None else measured.step_bytes / max(peer.step_bytes, 1),
        peak_share=spread_of_rates(flops, [s * f for s, f in zip(elapsed_s, matmul_flops_per_s, strict=True)]),
        first_losses=() if measured.warm_up is None else measured.warm_up.losses,
    )


def spread_of_rates(amounts: Sequence[float], elapsed_s: Sequence[float]) -> Spread:
    """Amounts a second, round by round."""
    return rates(1.0, [seconds / amount for amount, seconds in zip(amounts, elapsed_s, strict=True)])
