"""What an export made: one row an artefact, and the gates."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from distill.errors import ArtefactError, GateError
from distill.export.checksums import verify_checksums
from distill.export.fidelity import Fidelity
from distill.export.formats import FORMATS, MERGED
from distill.export.k_quants import fallback_note
from distill.export.recommendation import Recommendation, recommendations
from distill.export.runtime_cost import RuntimeCost
from distill.export.size_plot import SizePoint
from distill.export.smoke import SmokeReport
from distill.export.teacher_distance import TeacherDistance
from distill.export.weight_error import WeightReport

ARTEFACT = "artefact.json"


class ArtefactReport(BaseModel):
    """One format's folder; `fidelity` is None where no held-out chats were given, `teacher` where no teacher was.

    `cost` is None where speed was not to be measured.

    `key` is the fingerprint of all that went in: an artefact whose key stands is not made again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: str
    key: str
    model_file: str
    size_bytes: int
    details: Mapping[str, object]
    fidelity: Fidelity | None
    smoke: SmokeReport
    weights: WeightReport | None = None
    teacher: TeacherDistance | None = None
    cost: RuntimeCost | None = None

    @property
    def note(self) -> str | None:
        """What the format's name does not say of how the weights are stored, if anything."""
        fallbacks, matrices = self.details.get("num_fallbacks"), self.details.get("num_matrices")
        if not isinstance(fallbacks, int) or not isinstance(matrices, int) or not fallbacks:
            return None
        return fallback_note(fallbacks, matrices)

    def figures(self) -> dict[str, str]:
        """The measurements as the model card shows them."""
        smoke = self.smoke
        rows = {"size of the model's files": f"{self.size_bytes:,} bytes"}
        if self.fidelity is not None:
            rows |= _fidelity_figures(self.fidelity)
        if self.teacher is not None:
            t = self.teacher
            rows["KL to the teacher, nats per token"] = f"{t.kl_nats:.3g}, before {t.merged_kl_nats:.3g}"
        rows[f"same greedy answer in {smoke.runtime}"] = f"{smoke.num_same_text} of {smoke.num_prompts} prompts"
        rows["answers that end by themselves"] = f"{smoke.num_stopped}, before {smoke.num_merged_stopped}"
        if smoke.mean_answer_tokens is not None and smoke.merged_mean_answer_tokens is not None:
            lengths = f"{smoke.mean_answer_tokens:.1f} tokens, before {smoke.merged_mean_answer_tokens:.1f}"
            rows["mean length of an answer"] = lengths
        rows[f"test texts cut into the same tokens by {smoke.runtime}"] = (
            f"{smoke.num_same_corpus_ids} of {smoke.num_corpus_texts}"
        )
        if self.weights is not None:
            types = self.weights.num_tensors_by_type.items()
            rows["tensors by storage type"] = ", ".join(f"{count} × {name}" for name, count in types)
        if self.note is not None:
            rows["note"] = self.note
        if "bits_per_weight" in self.details:
            rows["bits per weight"] = f"{float(str(self.details['bits_per_weight'])):.2f}"
        return rows


def _fidelity_figures(f: Fidelity) -> dict[str, str]:
    return {
        "KL divergence, nats per token (± standard error)": f"{f.kl_nats:.3g}{_plus_minus(f.kl_standard_error_nats)}",
        "KL divergence, median / 99 % / largest": (
            f"{f.median_kl_nats:.2g} / {f.p99_kl_nats:.2g} / {f.max_kl_nats:.2g}"
        ),
        "same likeliest token": f"{f.same_top_token:.2%} of {f.num_tokens:,} tokens",
        "perplexity, ratio to before": f"{f.perplexity:.4g}, {f.perplexity_ratio:.5f}",
        "natural logarithm of that ratio (± standard error)": (
            f"{f.log_perplexity_ratio:.2g}{_plus_minus(f.log_perplexity_ratio_standard_error)}"
        ),
        "change of the next token's probability, mean / root mean square": (
            f"{f.mean_delta_p:.3%} / {f.rms_delta_p:.3%}"
        ),
    }


def _plus_minus(error: float | None) -> str:
    return "" if error is None else f" ± {error:.2g}"


class ExportReport(BaseModel):
    """All artefacts of one export, in the order in which they were asked for."""

    model_config = ConfigDict(frozen=True)

    output_dir: Path
    artefacts: tuple[ArtefactReport, ...]

    def path(self, name: str) -> Path:
        """What the runtime of format `name` is given: the model folder, or the .gguf file."""
        return self.output_dir / name / FORMATS[name].model_file

    def to_json(self) -> dict[str, dict[str, object]]:
        """The contents of report.json; paths are relative to it."""
        lines = self.recommendations()
        return {
            a.format: a.model_dump(mode="json", exclude={"format"})
            | {"recommended_as": [line.wanted for line in lines if line.name == a.format]}
            for a in self.artefacts
        }

    def points(self) -> list[SizePoint]:
        """Size and KL of the artefacts other than the merged model, of those that were measured."""
        return [
            SizePoint(a.format, a.size_bytes, a.fidelity.kl_nats)
            for a in self.artefacts
            if a.fidelity is not None and a.format != MERGED
        ]

    @property
    def merged_size_bytes(self) -> int | None:
        """Of the merged model's files, where it is among the artefacts."""
        return next((a.size_bytes for a in self.artefacts if a.format == MERGED), None)

    @property
    def hardware(self) -> list[str]:
        """What speed and memory were measured on; empty where they were not."""
        return sorted({a.cost.hardware for a in self.artefacts if a.cost is not None})

    def recommendations(self) -> list[Recommendation]:
        """Which artefact to take for which wish; empty where no KL was measured."""
        size_bytes = self.merged_size_bytes
        return [] if size_bytes is None else recommendations(self.points(), merged_size_bytes=size_bytes)

    def rows(self) -> list[dict[str, object]]:
        """One row of a table for each artefact."""
        return [
            {
                "format": a.format,
                "size_bytes": a.size_bytes,
                "kl_nats": None if a.fidelity is None else a.fidelity.kl_nats,
                "same_top_token": None if a.fidelity is None else a.fidelity.same_top_token,
                "same_text": f"{a.smoke.num_same_text}/{a.smoke.num_prompts}",
                "runtime": a.smoke.runtime,
                "path": str(self.path(a.format)),
            }
            for a in self.artefacts
        ]

    def require_gates(self, *, max_kl: float | None, min_top1: float | None) -> None:
        """Refuses an export of which an artefact is too far from the merged model; the files stay.

        Raises:
            GateError: names every artefact and figure that misses.
        """
        misses = []
        for artefact in self.artefacts:
            fidelity = artefact.fidelity
            if fidelity is None:
                continue
            if max_kl is not None and fidelity.kl_nats > max_kl:
                misses.append(f"{artefact.format} has KL {fidelity.kl_nats:.3g} nats, export.max_kl is {max_kl}")
            if min_top1 is not None and fidelity.same_top_token < min_top1:
                misses.append(
                    f"{artefact.format} keeps {fidelity.same_top_token:.2%} of the likeliest tokens, "
                    f"export.min_top1 is {min_top1:.2%}"
                )
        if misses:
            raise GateError("; ".join(misses), why="the artefacts are written, but too far", fix="drop the format")


def read_artefact(folder: Path) -> ArtefactReport:
    """Reads an artefact's report after checking every file of the folder.

    Raises:
        ArtefactError: a file is missing, new or changed, or the report is not one of ours.
    """
    verify_checksums(folder)
    try:
        return ArtefactReport.model_validate_json((folder / ARTEFACT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{folder / ARTEFACT} is not readable", why=str(error), fix="export it again") from error
