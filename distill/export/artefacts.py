"""One model to many artefacts, each reloaded, measured and tried in its runtime; finished ones are kept."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from distill.data import Conversation, TokenizedConversation
from distill.errors import ExportError, RecipeError
from distill.export.card import card, write_card
from distill.export.checksums import write_checksums
from distill.export.fidelity import Fidelity, measure_fidelity, tokenize_chats
from distill.export.formats import FORMATS, MERGED
from distill.export.report import ARTEFACT, ArtefactReport, ExportReport, read_artefact
from distill.export.settings import ExportSettings
from distill.export.smoke import Expected, SmokeReport, expected_answers, smoke_test
from distill.files import fingerprint, fingerprint_of_folder, locked, replacing_folder, write_json
from distill.models import LoadedModel, find_source, folder_size_bytes, load_model
from distill.settings import validated

log = logging.getLogger(__name__)

# Raised when the same inputs would give other artefacts than before.
VERSION = 1


def export_model(
    model_folder: Path,
    *,
    formats: Sequence[str],
    output_dir: Path,
    prompts: Sequence[Conversation] = (),
    settings: ExportSettings | None = None,
    lineage: Mapping[str, str] | None = None,
) -> ExportReport:
    """Writes `model_folder` to `output_dir`/FORMAT for each format, and report.json beside them.

    The merged model comes first, asked for or not: it is held against the model it was made from, and every other
    format is made from it and held against it. An artefact that is there, whole, and made from the same inputs is
    kept. A folder appears whole or not at all: one that fails its smoke test does not appear.

    Args:
        model_folder: a model, or LoRA adapters.
        formats: names in `FORMATS`.
        prompts: held-out chats with answers; without them no KL is measured and common questions are asked.
        settings: all but the formats; None takes the defaults.
        lineage: what the model cards say about teacher, student and data.

    Raises:
        RecipeError: a format is unknown, or a gate is set and there is nothing to measure it on.
        ModelError: the model cannot be loaded.
        ExportError: an artefact cannot be written, or is not what the model was.
        GateError: an artefact misses `max_kl` or `min_top1`; all are written.
    """
    values = {} if settings is None else settings.model_dump()
    settings = validated(ExportSettings, {**values, "formats": tuple(formats)}, source="export")
    if not prompts and (settings.max_kl is not None or settings.min_top1 is not None):
        raise RecipeError(
            "export.max_kl or export.min_top1 is set, but there are no held-out conversations",
            why="there is nothing to measure the gate on",
            fix="give the data a valid split, or drop the gate",
        )
    source = _Original(model_folder, tuple(prompts), settings)
    merged = _Original(output_dir / MERGED, tuple(prompts), settings)
    inputs = {
        "version": VERSION,
        "model": fingerprint_of_folder(find_source(model_folder).folder),
        "prompts": [prompt.to_json() for prompt in prompts],
        "settings": settings.model_dump(exclude={"formats", "max_kl", "min_top1"}),
        "lineage": dict(lineage or {}),
    }
    artefacts = []
    with locked(output_dir / ".lock"):
        for name in dict.fromkeys((MERGED, *settings.formats)):
            key = fingerprint({**inputs, "format": name})
            original = source if name == MERGED else merged
            artefacts.append(_artefact(name, original, output_dir / name, key=key, lineage=lineage or {}))
        report = ExportReport(output_dir=output_dir, artefacts=tuple(artefacts))
        write_json(output_dir / "report.json", report.to_json())
    report.require_gates(max_kl=settings.max_kl, min_top1=settings.min_top1)
    return report


@dataclass(frozen=True)
class _Original:
    """What artefacts are made from and held against; loaded when the first of them needs it."""

    folder: Path
    prompts: tuple[Conversation, ...]
    settings: ExportSettings

    @cached_property
    def loaded(self) -> LoadedModel:
        return load_model(self.folder)

    @cached_property
    def chats(self) -> list[TokenizedConversation]:
        return tokenize_chats(self.loaded, self.prompts[: self.settings.num_fidelity_conversations])

    @cached_property
    def expected(self) -> Expected:
        number, longest = self.settings.num_smoke_prompts, self.settings.max_new_tokens
        return expected_answers(self.loaded, self.prompts, num_prompts=number, max_new_tokens=longest)

    def fidelity(self, path: Path) -> Fidelity | None:
        if not self.chats:
            log.warning("no held-out chats with answers: KL to the merged model is not measured")
            return None
        return measure_fidelity(self.loaded, load_model(path), chats=self.chats)

    def smoke(self, name: str, path: Path) -> SmokeReport:
        row = FORMATS[name]
        return smoke_test(path, self.expected, runtime=row.runtime, min_same_text=row.min_same_text)


def _artefact(name: str, original: _Original, folder: Path, *, key: str, lineage: Mapping[str, str]) -> ArtefactReport:
    finished = _finished(folder, key=key)
    if finished is not None:
        log.info("%s: kept, its inputs have not changed", name)
        return finished
    started = time.monotonic()
    row = FORMATS[name]
    with replacing_folder(folder) as partial:
        path = partial / row.model_file
        try:
            details = row.write(original.folder, partial, original.settings.dtype)
            size_bytes = folder_size_bytes(partial)
            fidelity, smoke = original.fidelity(path), original.smoke(name, path)
        except ExportError as error:
            raise ExportError(f"{name}: {error.what}", why=error.why, fix=error.fix) from error
        report = ArtefactReport(
            format=name,
            key=key,
            model_file=row.model_file,
            size_bytes=size_bytes,
            details=details,
            fidelity=fidelity,
            smoke=smoke,
        )
        _write_papers(partial, report, lineage=lineage)
    log.info("%s: %d bytes in %.1f s", name, size_bytes, time.monotonic() - started)
    return report


def _finished(folder: Path, *, key: str) -> ArtefactReport | None:
    """The report of an artefact that need not be made again."""
    if not folder.exists():
        return None
    try:
        report = read_artefact(folder)
    except ExportError as error:
        log.warning("%s is made again: %s", folder.name, error.what)
        return None
    return report if report.key == key else None


def _write_papers(folder: Path, report: ArtefactReport, *, lineage: Mapping[str, str]) -> None:
    """Model card, report and checksums, in this order."""
    row = FORMATS[report.format]
    text = card(
        title=report.format,
        description=f"A distilled chat model: {row.description}.",
        runtime=row.runtime,
        file_name=row.model_file,
        lineage=lineage,
        figures=report.figures(),
    )
    write_card(folder, text)
    write_json(folder / ARTEFACT, report.model_dump(mode="json"))
    write_checksums(folder)
