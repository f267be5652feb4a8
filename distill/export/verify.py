"""All of an export's checks once more: bytes, inputs, reload, runtime, fidelity and gates."""

import logging
from pathlib import Path

from distill.errors import ArtefactError, CacheError, DataError, ExportError, ModelError, RecipeError
from distill.export.artefacts import Original
from distill.export.checks import CHECKS, Checks, read_checks
from distill.export.checksums import verify_checksums
from distill.export.first_load import require_loads
from distill.export.formats import FORMATS, MERGED
from distill.export.hazards import refuse_hazards
from distill.export.report import ARTEFACT, ArtefactReport, ExportReport, read_artefact
from distill.export.settings import ExportSettings
from distill.files import fingerprint_of_folder, read_json
from distill.models import find_source
from distill.settings import validated

log = logging.getLogger(__name__)

# Another machine's arithmetic moves a KL a little; damaged weights move it by orders of magnitude.
KL_FACTOR, KL_SLACK_NATS = 1.5, 1e-4


def verify_export(folder: Path) -> ExportReport:
    """Every artefact under `folder`, or the one that it is, against its checksums; loads nothing.

    Files that run code, and configurations that ask for it, are refused too.

    Raises:
        RecipeError: the folder holds no artefacts.
        ArtefactError: one is damaged, renamed, missing or unsafe; names the file.
    """
    output_dir, names = _found(folder)
    for name in names:
        if name not in FORMATS and (output_dir / name).is_dir():
            verify_checksums(output_dir / name)
            raise ArtefactError(
                f"{output_dir / name} is no format of this version",
                why=f"it was renamed, or a later version made it; known: {', '.join(FORMATS)}",
                fix="give the folder its name back",
            )
    for name in names:
        if not (output_dir / name).is_dir():
            raise ArtefactError(f"{output_dir / name} is missing", why="report.json lists it", fix="export it again")
    return ExportReport(output_dir=output_dir, artefacts=tuple(_read(output_dir / name) for name in names))


def verify_artefacts(folder: Path, *, max_kl: float | None = None, min_top1: float | None = None) -> ExportReport:
    """Checks every artefact under `folder`, or the one that it is, as the export did; nothing is written.

    The merged model is held against the model that it was made from where that is still there unchanged, else
    against itself; every other artefact against the merged model, which one artefact's folder must stand beside.

    Args:
        folder: of an export, or of one of its artefacts.
        max_kl: gate in nats per token; None takes the export's own.
        min_top1: gate on the share of tokens ranked first alike; None takes the export's own.

    Returns:
        The artefacts with what was measured now.

    Raises:
        RecipeError: the folder holds no artefacts, or there is nothing to measure a gate on.
        ArtefactError: one is damaged, was made from other inputs, does not load or answer, or is farther from the
            merged model than its report says; names file or format.
        GateError: one misses a gate.
    """
    report = verify_export(folder)
    checks = _checks_beside(report)
    for artefact in report.artefacts:
        if artefact.key != checks.key(artefact.format):
            raise ArtefactError(
                f"{report.output_dir / artefact.format} was not made from what {CHECKS} says",
                why="one of the two was changed, or it is left over from another export",
                fix="export it again, or remove the folder",
            )
    if not checks.prompts() and (max_kl is not None or min_top1 is not None):
        raise RecipeError(
            f"a gate is given, but {folder} was exported without held-out conversations",
            why="there is nothing to measure it on",
            fix="export again with --chats FILE, or drop the gate",
        )
    for name in (artefact.format for artefact in report.artefacts):
        if FORMATS[name].runtime == "llama.cpp":
            require_loads(report.path(name))
    again = ExportReport(output_dir=report.output_dir, artefacts=_measured_again(report, checks))
    _refuse_drift(report, again)
    again.require_gates(
        max_kl=checks.max_kl if max_kl is None else max_kl,
        min_top1=checks.min_top1 if min_top1 is None else min_top1,
    )
    return again


def _found(folder: Path) -> tuple[Path, list[str]]:
    """The export's folder, and the names of the artefacts that it holds or, by report.json, should hold."""
    folder = folder.absolute().resolve() if folder.name in ("", ".", "..") else folder
    if (folder / ARTEFACT).exists() or folder.name in FORMATS:
        return folder.parent, [folder.name]
    if not folder.is_dir():
        raise RecipeError(f"{folder} is no folder", fix="name the folder given to --out")
    present = {path.parent.name for path in folder.glob(f"[!.]*/{ARTEFACT}")}
    present |= {name for name in FORMATS if (folder / name).is_dir()}
    listed = _listed(folder / "report.json")
    names = [name for name in FORMATS if name in present | listed] + sorted((present | listed) - FORMATS.keys())
    if not present:
        raise RecipeError(f"{folder} holds no artefacts", fix="name the folder given to --out")
    return folder, names


def _listed(path: Path) -> set[str]:
    if not path.exists():
        return set()
    try:
        return set(read_json(path))
    except DataError as error:
        raise ArtefactError(error.what, why=error.why, fix="export again: what is finished is kept") from error


def _read(folder: Path) -> ArtefactReport:
    report = read_artefact(folder)
    refuse_hazards(folder)
    if report.format != folder.name or report.model_file != FORMATS[folder.name].model_file:
        raise ArtefactError(
            f"{folder / ARTEFACT} tells of {report.model_file} in format {report.format}",
            why=f"{folder.name} holds {FORMATS[folder.name].model_file}; the folder was renamed or the file changed",
            fix="give the folder its name back, or export it again",
        )
    return report


def _checks_beside(report: ExportReport) -> Checks:
    """The export's checks.json; says so where it or the merged model does not stand beside an artefact."""
    output_dir = report.output_dir
    for path, what in ((output_dir / MERGED, "the merged model"), (output_dir / CHECKS, "the record of its checks")):
        if not path.exists():
            raise ArtefactError(
                f"{path} is missing",
                why=f"artefacts are held against {what}; checksums are right",
                fix="export again: what is finished is kept; or --checksums-only for a folder that was copied alone",
            )
    if all(artefact.format != MERGED for artefact in report.artefacts):
        _read(output_dir / MERGED)
    return read_checks(output_dir)


def _measured_again(report: ExportReport, checks: Checks) -> tuple[ArtefactReport, ...]:
    values = checks.inputs.get("settings")
    names = tuple(artefact.format for artefact in report.artefacts)
    stored = values if isinstance(values, dict) else {}
    settings = validated(ExportSettings, {**stored, "formats": names}, source=CHECKS)
    merged = _with_teacher_at_hand(Original(report.output_dir / MERGED, checks.prompts(), settings))
    source = merged
    if MERGED in names and _is_unchanged(checks):
        source = Original(Path(checks.source), merged.prompts, merged.settings)
    return tuple(_again(report, row, source if row.format == MERGED else merged) for row in report.artefacts)


def _with_teacher_at_hand(original: Original) -> Original:
    """Without the teacher where it is gone or no folder: it is no part of the export, and no hub is asked for it."""
    teacher = original.settings.teacher
    if teacher is None:
        return original
    try:
        if not Path(teacher).is_dir():
            raise ModelError(f"{teacher} is no folder here")
        _ = original.teacher
    except (ModelError, CacheError, RecipeError, ExportError) as error:
        log.warning("KL to the teacher is not measured: %s", error.what)
        return Original(original.folder, original.prompts, original.settings.model_copy(update={"teacher": None}))
    return original


def _again(report: ExportReport, artefact: ArtefactReport, original: Original) -> ArtefactReport:
    path = report.path(artefact.format)
    try:
        measured = {**original.distances(path), "smoke": original.smoke(artefact.format, path)}
    except (ExportError, ModelError) as error:
        raise ArtefactError(f"{path}: {error.what}", why=error.why, fix=error.fix or "export it again") from error
    return artefact.model_copy(update=measured)


def _is_unchanged(checks: Checks) -> bool:
    """Whether the model that the merged one was made from is still there."""
    try:
        if fingerprint_of_folder(find_source(Path(checks.source)).folder) == checks.inputs.get("model"):
            return True
    except ModelError:
        pass
    log.warning("%s is gone or has changed: the merged model is held against itself", checks.source)
    return False


def _refuse_drift(report: ExportReport, again: ExportReport) -> None:
    for old, new in zip(report.artefacts, again.artefacts, strict=True):
        if old.fidelity is None or new.fidelity is None:
            continue
        if new.fidelity.kl_nats > KL_FACTOR * old.fidelity.kl_nats + KL_SLACK_NATS:
            raise ArtefactError(
                f"{report.path(old.format)} has KL {new.fidelity.kl_nats:.3g} nats, "
                f"its report says {old.fidelity.kl_nats:.3g}",
                why="its weights are not those that were measured",
                fix="export it again",
            )
