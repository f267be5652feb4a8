"""README.md as a model card: of each artefact, and of the export that they belong to.

An artefact's card holds its own figures beside the merged model's, so that it stays true when formats are added later;
the table of all formats stands in the export's card, which every export writes anew. Accuracy is measured after an
export and stands in the run's report, not in the cards.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.export import lineage as words
from distill.export.formats import FORMATS, MERGED
from distill.export.markdown import front_matter, inline, table
from distill.export.report import ArtefactReport
from distill.export.usage import usage
from distill.files import write_text

CARD = "README.md"
_LIBRARIES = {
    "bnb": ("accelerate", "bitsandbytes"),
    "torchao": ("torchao",),
    "auto": ("auto-round",),
    "compressed": ("compressed-tensors",),
}
_COLUMNS = ("format", "size", "bits per weight", "KL, nats per token", "same likeliest token", "perplexity ratio",
            "same greedy answers")  # fmt: skip


def artefact_card(report: ArtefactReport, *, lineage: Mapping[str, str], merged: ArtefactReport | None) -> str:
    """The card of one artefact.

    Args:
        report: of the artefact.
        lineage: where the model comes from, by the names of `distill.export.lineage` and others.
        merged: the merged model's report; None where it is the artefact itself.
    """
    row, told = FORMATS[report.format], words.known(lineage)
    needs = _LIBRARIES.get(_family(report.format), ())
    beside = (report,) if merged is None or merged.format == report.format else (merged, report)
    parts = [
        front_matter(_metadata(report.format, told)),
        f"# {report.format}",
        f"A distilled chat model: {row.description}.",
        *_lineage(told),
        "## Measured",
        _against(report),
        comparison(beside),
        table(("figure", "value"), list(report.figures().items())),
        "## Use",
        usage(row.runtime, file_name=row.model_file, needs=needs),
        "## Known limits",
        _limits(report, told),
        "Checksums: `sha256sum -c SHA256SUMS`. What it was made from and with: `export.lock.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def export_card(reports: Sequence[ArtefactReport], *, lineage: Mapping[str, str]) -> str:
    """The card of a whole export, with one row for each artefact."""
    told = words.known(lineage)
    parts = [
        front_matter(_metadata(MERGED, told)),
        "# A distilled chat model in " + (f"{len(reports)} formats" if len(reports) != 1 else "one format"),
        *_lineage(told),
        "## Formats",
        *([] if not reports else [_against(reports[-1])]),
        comparison(reports),
        "Each folder has its own card with commands to run it, its limits, checksums and a lock file. All checks once"
        " more, in the folder of this file: `distill export verify .`",
    ]
    return "\n\n".join(parts) + "\n"


def comparison(reports: Sequence[ArtefactReport]) -> str:
    """A table of sizes and distances, one row an artefact."""
    rows = []
    for report in reports:
        fidelity, smoke = report.fidelity, report.smoke
        bits = None if report.weights is None else report.weights.bits_per_weight
        cells = [report.format, f"{report.size_bytes / 1e6:,.2f} MB", "–" if bits is None else f"{bits:.2f}"]
        if fidelity is None:
            cells += ["–", "–", "–"]
        else:
            error = fidelity.kl_standard_error_nats
            spread = "" if error is None else f" ± {1.96 * error:.1g}"
            cells += [
                f"{fidelity.kl_nats:.3g}{spread}",
                f"{fidelity.same_top_token:.2%}",
                f"{fidelity.perplexity_ratio:.4f}",
            ]
        rows.append([*cells, f"{smoke.num_same_text} of {smoke.num_prompts}"])
    return table(_COLUMNS, rows)


def write_card(folder: Path, text: str) -> None:
    """Writes README.md into `folder`."""
    write_text(folder / CARD, text)


def _family(name: str) -> str:
    return name.partition("-")[0]


def _metadata(name: str, lineage: Mapping[str, str]) -> dict[str, object]:
    """The card's YAML as the hub reads it; what is not known is left out."""
    values: dict[str, object] = {}
    licence = lineage.get(words.LICENCE)
    if licence is None or licence.lower() in words.HUB_LICENCES:
        values["license"] = "unknown" if licence is None else licence.lower()
    else:
        values |= {"license": "other", "license_name": "-".join(licence.lower().split())}
    base, data = lineage.get(words.STUDENT), lineage.get(words.DATA)
    if words.is_hub_id(base):
        values |= {"base_model": [base], "base_model_relation": "finetune" if name == MERGED else "quantized"}
    if words.is_hub_id(data):
        values["datasets"] = [data]
    family = _family(name)
    values |= {"pipeline_tag": "text-generation", "library_name": "gguf" if family == "gguf" else "transformers"}
    own = {"gguf": ["gguf"], "bnb": ["bitsandbytes"], "torchao": ["torchao"]}.get(family, [])
    values["tags"] = ["distill", "knowledge-distillation", "conversational", *own]
    return values


def _lineage(told: Mapping[str, str]) -> list[str]:
    if not told:
        return []
    return ["## Lineage", table(("what", "value"), [(name, words.shown_name(value)) for name, value in told.items()])]


def _against(report: ArtefactReport) -> str:
    if report.fidelity is None:
        return "No held-out chats were given: how far each format is from the merged model was not measured."
    found = report.fidelity
    whom = "" if report.format == MERGED else "the merged model, and that against "
    return (
        f"Against {whom}the model it was made from, on {found.num_tokens:,} assistant tokens of"
        f" {found.num_conversations:,} held-out chats; ± is a 95 % interval with chats, not tokens, as independent."
    )


def _limits(report: ArtefactReport, told: Mapping[str, str]) -> str:
    lines = []
    if words.TEACHER_LICENCE not in told:
        lines.append("The teacher's licence was not stated: see whether it allows training on its answers.")
    if words.LICENCE not in told:
        lines.append("No licence was stated for this model.")
    if report.fidelity is not None:
        lines.append("The figures hold for chats like the held-out ones; on other topics a format may be farther away.")
    lines.append("It can repeat whatever its teacher and its data got wrong.")
    if _family(report.format) == "bnb":
        lines.append("It needs bitsandbytes; other runtimes do not read this format.")
    if _family(report.format) == "gguf":
        lines.append("The distances are of the stored weights; a runtime's own arithmetic adds a little.")
    return "\n".join(f"- {inline(line)}" for line in lines)
