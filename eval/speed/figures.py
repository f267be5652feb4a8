"""The figures of the teacher cache's benchmarks as data, and as the tables that documents show."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from distill.settings import Settings

MISSING = "–"


class Spread(Settings):
    """The middle of several runs, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    def text(self, form: str = "{:.2f}") -> str:
        """The three numbers in one form."""
        return f"{form.format(self.median)} [{form.format(self.low)}, {form.format(self.high)}]"


class RatePoint(Settings):
    """One way to store the teacher's distributions: what it takes and what it costs.

    `kl_nats` is the mean of KL(teacher || stored); None where it is infinite. `gradient_angle_degrees` stands
    between the gradients of a student's head from the stored and from the whole distributions.
    """

    name: str
    origin: Literal["ours", "peer"]
    bytes_per_token: float = Field(gt=0)
    kl_nats: float | None
    max_kl_nats: float | None
    total_variation: float
    top_1_agreement: float
    gradient_angle_degrees: float

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.name,
            f"{self.bytes_per_token:,.1f}",
            "∞" if self.kl_nats is None else f"{self.kl_nats:.2g}",
            f"{self.total_variation:.2g}",
            f"{100 * self.top_1_agreement:.2f} %",
            f"{self.gradient_angle_degrees:.2f}°",
        )


class _Measure(NamedTuple):
    field: Literal["kl_nats", "gradient_angle_degrees"]
    label: str
    form: str


MEASURES = (
    _Measure("kl_nats", "KL", "{:.2g} nats"),
    _Measure("gradient_angle_degrees", "gradient angle", "{:.2f}°"),
)


class TeacherRates(Settings):
    """All points of one teacher.

    `student_kl_nats` says how far the student of the gradients is from it, `float32_exact_kl_nats` what `exact` would
    cost if its states were not bfloat16 already.
    """

    teacher: str
    vocab_size: int
    hidden_size: int
    num_tokens: int
    entropy_nats: float
    student_kl_nats: float
    float32_exact_kl_nats: float | None = None
    points: tuple[RatePoint, ...]

    def to_markdown(self) -> str:
        """A caption, the table, and at equal bytes the better of each peer and what stands here."""
        head_mb = 2 * self.vocab_size * self.hidden_size / 1e6
        caption = (
            f"**{self.teacher}**: vocabulary {self.vocab_size:,}, hidden size {self.hidden_size:,}, mean entropy "
            f"{self.entropy_nats:.2f} nats, {self.num_tokens:,} tokens; full float32 logits take "
            f"{4 * self.vocab_size:,} bytes a token, the head once {head_mb:,.1f} MB in bfloat16. "
            f"The student of the gradients is at a KL of {self.student_kl_nats:.2g}."
        )
        if self.float32_exact_kl_nats is not None:
            caption += f" The same teacher in float32 is stored by `exact` at a KL of {self.float32_exact_kl_nats:.2g}."
        headings = ("stored", "bytes a token", "KL (nats)", "total variation", "same top token", "gradient angle")
        by_size = sorted(self.points, key=lambda point: -point.bytes_per_token)
        table = markdown_table(headings, [point.cells() for point in by_size])
        return "\n\n".join([caption, table, *at_equal_bytes(self.points)]) + "\n"


def at_equal_bytes(points: Sequence[RatePoint]) -> list[str]:
    """One sentence a measure: of which peers nothing here is better within their bytes, and of which it is."""
    ours, peers = ([p for p in points if p.origin == origin] for origin in ("ours", "peer"))
    sentences = []
    for measure in MEASURES:
        better, worse = [], []
        for peer in peers:
            best = _best_within(ours, peer.bytes_per_token, measure)
            theirs = _value(peer, measure)
            if best is None or _value(best, measure) > theirs:
                mine = "nothing" if best is None else f"{best.name}, {_shown(best, measure)}"
                better.append(f"{peer.name} ({_shown(peer, measure)}; here {mine})")
            else:
                worse.append(peer.name)
        if better:
            sentences.append(f"By {measure.label}, closer than anything here of no more bytes: {'; '.join(better)}.")
        elif worse:
            sentences.append(f"By {measure.label}, no peer is closer than what stands here at no more bytes.")
    return sentences


def _best_within(points: Iterable[RatePoint], bytes_per_token: float, measure: _Measure) -> RatePoint | None:
    affordable = [point for point in points if point.bytes_per_token <= bytes_per_token]
    return min(affordable, key=lambda point: _value(point, measure), default=None)


def _value(point: RatePoint, measure: _Measure) -> float:
    value = getattr(point, measure.field)
    return math.inf if value is None else float(value)


def _shown(point: RatePoint, measure: _Measure) -> str:
    value = _value(point, measure)
    return "∞" if math.isinf(value) else measure.form.format(value)


class RateDistortion(Settings):
    """Bytes against distance, teacher by teacher."""

    format: Literal["rate-distortion"] = "rate-distortion"
    teachers: tuple[TeacherRates, ...]
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """One table a teacher, then the notes."""
        notes = "".join(f"{note}.\n" for note in self.notes)
        return "\n".join([*(rates.to_markdown() for rates in self.teachers), notes])


class CaptureRow(Settings):
    """Capture of one codec against a plain forward pass of the same model over the same sequences.

    `share` is capture's tokens a second over the baseline's in the same round; 1 means free.
    """

    codec: str
    baseline: str
    tokens_per_s: Spread
    share: Spread

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return self.codec, f"{self.tokens_per_s.median:,.0f}", self.baseline, self.share.text()


class ReadRow(Settings):
    """Reading one store, in completion tokens a CPU-second; None where there is nothing to decode."""

    name: str
    bytes_per_token: float
    read_tokens_per_cpu_s: Spread
    decode_tokens_per_cpu_s: Spread | None = None

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        decode = self.decode_tokens_per_cpu_s
        return (
            self.name,
            f"{self.bytes_per_token:,.1f}",
            f"{self.read_tokens_per_cpu_s.median:,.0f}",
            MISSING if decode is None else f"{decode.median:,.0f}",
        )


class WaitingRow(Settings):
    """Training steps that read what they learn from: the share of their time spent waiting for the reader."""

    tier: str
    steps: int
    step_s: Spread
    waiting_share: float

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return self.tier, str(self.steps), self.step_s.text("{:.3f}"), f"{100 * self.waiting_share:.2f} %"


class CacheSpeed(Settings):
    """Capture, reading and waiting, with the shapes they were measured at."""

    format: Literal["cache-speed"] = "cache-speed"
    shapes: dict[str, str]
    capture: tuple[CaptureRow, ...]
    reading: tuple[ReadRow, ...]
    reading_ratio: dict[str, float]
    waiting: tuple[WaitingRow, ...]

    def to_markdown(self) -> str:
        """A table for each part that was measured, with its shapes."""
        ratios = "; ".join(f"{ratio:,.0f} times {name}" for name, ratio in self.reading_ratio.items())
        capture = ("tier", "completion tokens/s", "compared with", "share of its speed")
        reading = ("stored as", "bytes a token", "read, tokens/CPU-s", "decoded, tokens/CPU-s")
        waiting = ("tier", "steps", "seconds a step", "share of time spent waiting")
        parts: list[tuple[str, Sequence[str], list[tuple[str, ...]]]] = [
            ("capture", capture, [row.cells() for row in self.capture]),
            ("reading", reading, [row.cells() for row in self.reading]),
            ("waiting", waiting, [row.cells() for row in self.waiting]),
        ]
        texts = [
            f"{name.capitalize()} ({self.shapes[name]}):\n\n{markdown_table(headings, rows)}"
            for name, headings, rows in parts
            if rows
        ]
        return "\n\n".join([*texts, *([f"`top-k` is read at {ratios}."] if ratios else [])]) + "\n"


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [tuple(headings), ("---",) * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)
