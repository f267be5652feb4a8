"""One model to many artefacts, each reloaded, measured and tried in its runtime; finished ones are kept."""

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from distill.data import Conversation, TokenizedConversation
from distill.errors import ExportError, RecipeError
from distill.export.card import artefact_card, export_card, write_card
from distill.export.checks import Checks, write_checks
from distill.export.checksums import write_checksums
from distill.export.cost_process import CostProcess
from distill.export.fidelity import measure_fidelity, tokenize_chats
from distill.export.fidelity_page import write_page
from distill.export.formats import FORMATS, MERGED
from distill.export.lockfile import write_lock
from distill.export.merge import dtype_as_stored
from distill.export.modelfile import write_modelfile
from distill.export.preflight import needed_bytes, require_disk, scratch_bytes
from distill.export.report import ARTEFACT, ArtefactReport, ExportReport, read_artefact
from distill.export.runtime_cost import RuntimeCost
from distill.export.settings import ExportSettings
from distill.export.smoke import Expected, SmokeReport, expected_answers, smoke_test
from distill.export.teacher_distance import Teacher, measure_teacher_distance, open_teacher
from distill.export.unquantized import require_unquantized
from distill.export.weight_error import weight_report
from distill.export.writing import Writing, read_calibration
from distill.files import fingerprint, fingerprint_of_folder, locked, replacing_folder, write_json
from distill.models import DtypeName, LoadedModel, find_source, folder_size_bytes, load_model
from distill.settings import validated

log = logging.getLogger(__name__)

# Settings that do not shape an artefact, or whose file's contents do.
_NO_INPUTS = {"formats", "max_kl", "min_top1", "calibration", "llmcompressor_python"}

# Raised when the same inputs would give other artefacts than before.
VERSION = 3


def export_model(
    model_folder: Path,
    *,
    formats: Sequence[str],
    output_dir: Path,
    prompts: Sequence[Conversation] = (),
    settings: ExportSettings | None = None,
    lineage: Mapping[str, str] | None = None,
) -> ExportReport:
    """Writes `model_folder` to `output_dir`/FORMAT for each format, and report.json, report.html and README.md beside.

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
        RecipeError: a format is unknown or needs a package that is missing, there is nothing to measure a gate on,
            `output_dir` is a file, or calibration chats are held out.
        ModelError: the model cannot be loaded.
        ExportError: the disk is too small, or an artefact cannot be written, or is not what the model was.
        GateError: an artefact misses `max_kl` or `min_top1`; all are written.
    """
    values = {} if settings is None else settings.model_dump()
    settings = validated(ExportSettings, {**values, "formats": tuple(formats)}, source="export")
    _require_sound(settings, output_dir, has_prompts=bool(prompts))
    found = find_source(model_folder)
    require_unquantized(found)
    how = Writing(
        dtype=settings.dtype or dtype_as_stored(found),
        calibration=read_calibration(settings.calibration, held_out=prompts),
        llmcompressor_python=settings.llmcompressor_python,
    )
    for name in settings.formats:
        FORMATS[name].require(name, how)
    source = Original(model_folder, tuple(prompts), settings, how)
    merged = Original(output_dir / MERGED, tuple(prompts), settings, how)
    checks = _checks_of(source, found.folder, lineage=lineage or {})
    with locked(output_dir / ".lock"), CostProcess() as costs:
        artefacts = _artefacts(source, merged, output_dir, checks=checks, costs=costs)
        report = ExportReport(output_dir=output_dir, artefacts=tuple(artefacts))
        write_json(output_dir / "report.json", report.to_json())
        write_page(report)
        write_card(output_dir, export_card(_all_finished(output_dir, report, checks), lineage=checks.lineage))
    report.require_gates(max_kl=settings.max_kl, min_top1=settings.min_top1)
    return report


def _require_sound(settings: ExportSettings, output_dir: Path, *, has_prompts: bool) -> None:
    if not has_prompts and (settings.max_kl is not None or settings.min_top1 is not None):
        raise RecipeError(
            "export.max_kl or export.min_top1 is set, but there are no held-out conversations",
            why="there is nothing to measure the gate on",
            fix="give the data a valid split, or drop the gate",
        )
    if output_dir.exists() and not output_dir.is_dir():
        raise RecipeError(f"{output_dir} is a file", why="artefacts go into a folder", fix="name another")


def _checks_of(source: "Original", folder: Path, *, lineage: Mapping[str, str]) -> Checks:
    """Everything that decides what is written and how it is judged; `folder` holds the model's files."""
    settings, how = source.settings, source.how
    inputs = {
        "version": VERSION,
        "model": fingerprint_of_folder(folder),
        "prompts": [prompt.to_json() for prompt in source.prompts],
        "settings": settings.model_dump(exclude=_NO_INPUTS),
        "lineage": dict(lineage),
    }
    if how.calibration:
        inputs["calibration"] = fingerprint([chat.to_json() for chat in how.calibration])
    gates = {"max_kl": settings.max_kl, "min_top1": settings.min_top1}
    return Checks(source=str(source.folder.absolute()), inputs=inputs, **gates)


def _artefacts(
    source: "Original", merged: "Original", output_dir: Path, *, checks: Checks, costs: CostProcess
) -> list[ArtefactReport]:
    """Every format's artefact, the merged model first: kept where its inputs are those of before, else written."""
    names = dict.fromkeys((MERGED, *source.settings.formats))
    finished = {name: _finished(output_dir / name, key=checks.key(name)) for name in names}
    missing = [name for name in names if finished[name] is None]
    _require_room(source.folder, output_dir, missing, dtype=source.how.dtype)
    write_checks(output_dir, checks)  # first, so that what a kill leaves behind can be verified
    artefacts: list[ArtefactReport] = []
    for name, report_there in finished.items():
        if report_there is not None:
            log.info("%s: kept, its inputs have not changed", name)
            artefacts.append(report_there)
            continue
        original = source if name == MERGED else merged
        before = next(iter(artefacts), None)
        artefacts.append(_artefact(name, original, output_dir / name, checks=checks, costs=costs, merged=before))
    return artefacts


@dataclass(frozen=True)
class Original:
    """What artefacts are made from and held against; loaded when the first of them needs it."""

    folder: Path
    prompts: tuple[Conversation, ...]
    settings: ExportSettings
    how: Writing = field(default_factory=Writing)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model with its tokenizer."""
        return load_model(self.folder)

    def release(self) -> None:
        """Lets go of model and teacher, which are loaded again when they are needed: writing an artefact needs room."""
        for name in ("loaded", "teacher"):
            self.__dict__.pop(name, None)

    @cached_property
    def chats(self) -> list[TokenizedConversation]:
        """Held-out chats with an answer, tokenized."""
        return tokenize_chats(self.loaded, self.prompts[: self.settings.num_fidelity_conversations])

    @cached_property
    def expected(self) -> Expected:
        """What artefacts are to say and read."""
        number, longest = self.settings.num_smoke_prompts, self.settings.max_new_tokens
        return expected_answers(self.loaded, self.prompts, num_prompts=number, max_new_tokens=longest)

    @cached_property
    def teacher(self) -> Teacher | None:
        """Whose distributions the student learnt, where the settings name it."""
        return None if self.settings.teacher is None else open_teacher(self.settings.teacher, self.loaded)

    def distances(self, path: Path) -> dict[str, object]:
        """What the report says of the artefact's distributions, by field."""
        if not self.chats:
            log.warning("no held-out chats with answers: KL to the merged model is not measured")
            return {"fidelity": None}
        artefact = load_model(path)
        found: dict[str, object] = {"fidelity": measure_fidelity(self.loaded, artefact, chats=self.chats)}
        if self.teacher is not None:
            found["teacher"] = measure_teacher_distance(self.teacher, self.loaded, artefact, chats=self.chats)
            if found["teacher"] is None:
                log.warning("%s knows none of the held-out chats: KL to it is not measured", self.settings.teacher)
        return found

    def cost(self, name: str, path: Path, *, costs: CostProcess) -> RuntimeCost | None:
        """Loading time, speed and memory, where they are to be measured."""
        if not self.settings.measures_speed:
            return None
        prompt_ids = [token for ids in self.expected.token_ids for token in ids]
        return costs.measure(path, runtime=FORMATS[name].runtime, prompt_ids=prompt_ids)

    def smoke(self, name: str, path: Path) -> SmokeReport:
        """The artefact at `path` in the runtime of format `name`."""
        row = FORMATS[name]
        share, kl = row.min_same_text, row.max_next_token_kl
        return smoke_test(path, self.expected, runtime=row.runtime, min_same_text=share, max_next_token_kl=kl)


def _require_room(model_folder: Path, output_dir: Path, names: Sequence[str], *, dtype: DtypeName) -> None:
    needed = needed_bytes(model_folder, names, dtype=dtype)
    require_disk(needed, output_dir, scratch=scratch_bytes(model_folder, names))


def _artefact(
    name: str,
    original: Original,
    folder: Path,
    *,
    checks: Checks,
    costs: CostProcess,
    merged: ArtefactReport | None,
) -> ArtefactReport:
    started = time.monotonic()
    if original.settings.measures_speed:
        costs.begin()
    row = FORMATS[name]
    with replacing_folder(folder) as partial:
        path = partial / row.model_file
        try:
            original.release()
            details = _written(name, original, partial)
            size_bytes = folder_size_bytes(partial)
            distances, smoke = original.distances(path), original.smoke(name, path)
            original.release()
            weights = weight_report(path, merged_folder=partial if name == MERGED else original.folder)
            cost = original.cost(name, path, costs=costs)
        except ExportError as error:
            raise ExportError(f"{name}: {error.what}", why=error.why, fix=error.fix) from error
        report = ArtefactReport.model_validate(
            {
                "format": name,
                "key": checks.key(name),
                "model_file": row.model_file,
                "size_bytes": size_bytes,
                "details": details,
                "smoke": smoke,
                "weights": weights,
                "cost": cost,
                **distances,
            }
        )
        if row.runtime == "llama.cpp":
            write_modelfile(original.folder, partial, gguf_name=row.model_file)
        _write_papers(partial, report, checks=checks, merged=merged)
    log.info("%s: %d bytes in %.1f s", name, size_bytes, time.monotonic() - started)
    return report


def _written(name: str, original: Original, partial: Path) -> Mapping[str, object]:
    """The artefact's model files in `partial`; a disk that refuses is told on, whichever library wrote to it."""
    try:
        return FORMATS[name].write(original.folder, partial, original.how)
    except OSError as error:
        raise ExportError(
            f"its files cannot be written: {error.strerror or error}",
            why=f"{partial.parent} has {shutil.disk_usage(partial.parent).free / 1e9:.2f} GB free",
            fix="free space, or choose another disk; the same command goes on from here",
        ) from error


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


def _all_finished(output_dir: Path, report: ExportReport, checks: Checks) -> list[ArtefactReport]:
    """This export's artefacts and those of earlier ones from the same inputs, in the order of the formats."""
    reports = {artefact.format: artefact for artefact in report.artefacts}
    for name in FORMATS.keys() - reports.keys():
        there = _finished(output_dir / name, key=checks.key(name))
        if there is not None:
            reports[name] = there
    return [reports[name] for name in FORMATS if name in reports]


def _write_papers(folder: Path, report: ArtefactReport, *, checks: Checks, merged: ArtefactReport | None) -> None:
    """Model card, lock, report and checksums, in this order."""
    write_card(folder, artefact_card(report, lineage=checks.lineage, merged=merged))
    write_lock(folder, report.format, inputs={"key": report.key, **checks.locked()})
    write_json(folder / ARTEFACT, report.model_dump(mode="json"))
    write_checksums(folder)
