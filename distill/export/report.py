"""What an export made: one row an artefact, and the gates."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from distill.errors import ExportError, GateError, RecipeError
from distill.export.checksums import verify_checksums
from distill.export.fidelity import Fidelity
from distill.export.formats import FORMATS
from distill.export.smoke import SmokeReport

ARTEFACT = "artefact.json"


class ArtefactReport(BaseModel):
    """One format's folder; `fidelity` is None where no held-out chats were given.

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

    def figures(self) -> dict[str, str]:
        """The measurements as the model card shows them."""
        smoke = self.smoke
        rows = {"size of the model's files": f"{self.size_bytes:,} bytes"}
        if self.fidelity is not None:
            f = self.fidelity
            error = "" if f.kl_standard_error_nats is None else f" ± {f.kl_standard_error_nats:.2g}"
            rows["KL divergence, nats per token (± standard error)"] = f"{f.kl_nats:.3g}{error}"
            rows["KL divergence, median / 99 % / largest"] = (
                f"{f.median_kl_nats:.2g} / {f.p99_kl_nats:.2g} / {f.max_kl_nats:.2g}"
            )
            rows["same likeliest token"] = f"{f.same_top_token:.2%} of {f.num_tokens:,} tokens"
            rows["perplexity, ratio to before"] = f"{f.perplexity:.4g}, {f.perplexity_ratio:.5f}"
        rows[f"same greedy answer in {smoke.runtime}"] = f"{smoke.num_same_text} of {smoke.num_prompts} prompts"
        rows["answers that end by themselves"] = f"{smoke.num_stopped}, before {smoke.num_merged_stopped}"
        if "bits_per_weight" in self.details:
            rows["bits per weight"] = f"{float(str(self.details['bits_per_weight'])):.2f}"
        return rows


class ExportReport(BaseModel):
    """All artefacts of one export, in the order in which they were asked for."""

    model_config = ConfigDict(frozen=True)

    output_dir: Path
    artefacts: tuple[ArtefactReport, ...]

    def path(self, name: str) -> Path:
        """What the runtime of format `name` is given: the model folder, or the .gguf file."""
        return self.output_dir / name / FORMATS[name].model_file

    def to_json(self) -> dict[str, object]:
        """The contents of report.json; paths are relative to it."""
        return {a.format: a.model_dump(mode="json", exclude={"format"}) for a in self.artefacts}

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
        ExportError: a file is missing, new or changed, or the report is not one of ours.
    """
    verify_checksums(folder)
    try:
        return ArtefactReport.model_validate_json((folder / ARTEFACT).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise ExportError(f"{folder / ARTEFACT} is not readable", why=str(error), fix="export it again") from error


def verify_export(output_dir: Path) -> ExportReport:
    """Checks every artefact under `output_dir` against its checksums.

    Raises:
        RecipeError: the folder holds none.
        ExportError: one is damaged.
    """
    folders = [output_dir / name for name in FORMATS if (output_dir / name).is_dir()]
    if not folders:
        raise RecipeError(f"{output_dir} holds no artefacts", fix="name the folder given to --out")
    return ExportReport(output_dir=output_dir, artefacts=tuple(read_artefact(folder) for folder in folders))
