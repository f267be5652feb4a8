"""The figures of exports as data, and as the tables that documents show."""

from collections.abc import Sequence
from typing import Literal

from distill.settings import Settings
from eval.speed.figures import MISSING, Spread, markdown_table

MB = 1e6
FORMAT_HEADINGS = (
    "format",
    "size, MB",
    "bits per weight",
    "KL, nats per token",
    "same top token",
    "prompt tokens/s",
    "generation tokens/s",
    "load, s",
    "memory, MB",
    "writing, s",
    "memory of writing, MB",
)
PEER_HEADINGS = (
    "model",
    "format",
    "written by",
    "seconds",
    "times as fast",
    "memory, MB",
    "size, MB",
    "KL, nats per token",
)
CONVERTER_HEADINGS = ("model", "type", "written by", "seconds", "times as fast", "memory, MB", "bytes", "equal tensors")


class FormatRow(Settings):
    """One artefact: what it is, how far from the merged model, and what it costs to write and to run.

    `memory_bytes` is what a process that runs it holds beyond its libraries, `write_bytes` the same of writing it.
    """

    format: str
    size_bytes: int
    bits_per_weight: float
    kl_nats: float
    kl_standard_error_nats: float
    same_top_token: float
    prompt_tokens_per_s: Spread
    generation_tokens_per_s: Spread
    load_s: Spread
    memory_bytes: int
    write_s: float
    write_bytes: int

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.format,
            f"{self.size_bytes / MB:,.2f}",
            f"{self.bits_per_weight:.2f}",
            f"{self.kl_nats:.2g} ± {self.kl_standard_error_nats:.1g}",
            f"{100 * self.same_top_token:.2f} %",
            self.prompt_tokens_per_s.text("{:,.0f}"),
            self.generation_tokens_per_s.text("{:,.0f}"),
            self.load_s.text(),
            f"{self.memory_bytes / MB:,.0f}",
            f"{self.write_s:.1f}",
            f"{self.write_bytes / MB:,.0f}",
        )


class ModelFormats(Settings):
    """One model in all formats measured; `described` says what it is and on what its KL stands."""

    name: str
    described: str
    num_parameters: int
    num_tokens: int
    rows: tuple[FormatRow, ...]

    def to_markdown(self) -> str:
        """A caption and the table."""
        caption = f"**{self.name}** ({self.num_parameters / 1e6:,.1f} M parameters): {self.described}"
        caption += f"; KL on {self.num_tokens:,} tokens of the assistant." if self.num_tokens else "."
        return f"{caption}\n\n{markdown_table(FORMAT_HEADINGS, [row.cells() for row in self.rows])}"


class PeerSide(Settings):
    """One of two that write the same format; KL is None where it was not measured."""

    elapsed_s: Spread
    peak_bytes: int
    size_bytes: int
    kl_nats: float | None = None


class PeerRow(Settings):
    """Ours and the peer's, in turn; the ratio is the peer's seconds over ours, round by round."""

    model: str
    format: str
    peer: str
    ours: PeerSide
    theirs: PeerSide
    speed_ratio: Spread

    def rows(self) -> list[tuple[str, ...]]:
        """The peer's row, then ours, as text."""
        return [
            self._cells(self.peer, self.theirs, MISSING),
            self._cells("distill", self.ours, self.speed_ratio.text()),
        ]

    def _cells(self, name: str, side: PeerSide, ratio: str) -> tuple[str, ...]:
        return (
            self.model,
            self.format,
            name,
            side.elapsed_s.text(),
            ratio,
            f"{side.peak_bytes / MB:,.0f}",
            f"{side.size_bytes / MB:,.2f}",
            MISSING if side.kl_nats is None else f"{side.kl_nats:.2g}",
        )


class ConverterRow(Settings):
    """Our GGUF writer beside llama.cpp's converter on one folder, and where their files differ."""

    model: str
    file_type: str
    ours: PeerSide
    theirs: PeerSide
    speed_ratio: Spread
    knows_tokenizer: bool
    num_tensors: int
    different_tensors: tuple[str, ...]
    only_ours: tuple[str, ...]
    only_theirs: tuple[str, ...]
    different_values: tuple[str, ...]

    def rows(self) -> list[tuple[str, ...]]:
        """The converter's row, then ours, as text."""
        equal = f"{self.num_tensors - len(self.different_tensors)} of {self.num_tensors}"
        sides = (("convert_hf_to_gguf.py", self.theirs, MISSING), ("distill", self.ours, self.speed_ratio.text()))
        return [
            (
                self.model,
                self.file_type,
                name,
                side.elapsed_s.text(),
                ratio,
                f"{side.peak_bytes / MB:,.0f}",
                f"{side.size_bytes:,}",
                equal,
            )
            for name, side, ratio in sides
        ]


class ExportSpeed(Settings):
    """Formats, model by model, and what others write of the same models."""

    format: Literal["export-speed"] = "export-speed"
    models: tuple[ModelFormats, ...] = ()
    peers: tuple[PeerRow, ...] = ()
    converters: tuple[ConverterRow, ...] = ()
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """A table for each model and for each peer, then the notes."""
        parts = [model.to_markdown() for model in self.models]
        if self.peers:
            table = markdown_table(PEER_HEADINGS, [cells for row in self.peers for cells in row.rows()])
            parts.append(
                "The same bitsandbytes formats by transformers' `from_pretrained(quantization_config=...)` and "
                f"`save_pretrained`, which does not read back what it wrote; ours does, on the clock:\n\n{table}"
            )
        if self.converters:
            table = markdown_table(CONVERTER_HEADINGS, [cells for row in self.converters for cells in row.rows()])
            parts.append(f"GGUF beside llama.cpp's converter, processes from start to end:\n\n{table}")
            parts.append("\n".join(converter_notes(self.converters)))
        if self.notes:
            parts.append("\n".join(f"{note}." for note in self.notes))
        return "\n\n".join(parts) + "\n"


def converter_notes(rows: Sequence[ConverterRow]) -> list[str]:
    """What the two files say differently, one sentence for each way; equal ones are told once."""
    told = []
    for row in rows:
        if not row.knows_tokenizer:
            told.append("The converter knows tokenizers by a hash and refuses these; it was told their names.")
        for names, text in (
            (row.only_ours, "Only ours has the keys"),
            (row.only_theirs, "Only the converter's has the keys"),
            (row.different_values, "Other values have"),
            (row.different_tensors, "Other tensors are"),
        ):
            if names:
                told.append(f"{text} {', '.join(f'`{name}`' for name in names)}.")
    return list(dict.fromkeys(told))
