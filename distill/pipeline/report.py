"""Stage `report`: one HTML page of the run, and its JSON twin."""

from distill.data import read_conversations
from distill.export import read_artefact
from distill.files import read_json
from distill.pipeline.manifest import library_versions, now, read_manifest
from distill.pipeline.run_folder import RunFolder
from distill.progress import read_metrics
from distill.settings import validated
from eval.measured import QUESTIONS, TEST, MeasuredModel
from eval.report import FidelityRow, RunReport, Sample, StageRow, write_report
from eval.results import read_results
from eval.samples import side_by_side

SHOWN_STAGES = ("prepare", "sft", "pairs", "safer_instruct", "cache", "train", "export", "evaluate", "harmlessness")


def run_report(run: RunFolder) -> dict[str, object]:
    """Writes `report.html` and `report.json` from what the earlier stages left."""
    path = run.stage("report") / "report.html"
    results = run.stage("evaluate") / "results.json"
    report = RunReport(
        title=f"Run of {run.loaded.path.name}",
        description=run.recipe.description,
        created=now(),
        recipe=run.recipe.model_dump(mode="json", exclude_none=True),
        versions=library_versions(),
        stages=tuple(_stage_rows(run)),
        curves={name: tuple(read_metrics(run.stage(name) / "metrics.jsonl")) for name in ("sft", "train")},
        table=read_results(results) if results.exists() else None,
        fidelity=tuple(_fidelity(run)),
        samples=tuple(_samples(run)),
        accuracy_by_category=_by_category(run),
    )
    write_report(path, report)
    return {"path": str(path)}


def _stage_rows(run: RunFolder) -> list[StageRow]:
    rows = []
    for name in SHOWN_STAGES:
        manifest = read_manifest(run.stage(name))
        if manifest is not None:
            row = StageRow(name=name, status=manifest.status, elapsed_s=manifest.elapsed_s, summary=manifest.summary)
            rows.append(row)
    return rows


def _fidelity(run: RunFolder) -> list[FidelityRow]:
    names = run.recipe.export.formats if run.recipe.export is not None else ()
    artefacts = [read_artefact(run.stage("export") / name) for name in names]
    return [
        FidelityRow(
            format=artefact.format,
            size_bytes=artefact.size_bytes,
            kl_nats=None if artefact.fidelity is None else artefact.fidelity.kl_nats,
            same_top_token=None if artefact.fidelity is None else artefact.fidelity.same_top_token,
            smoke=f"{artefact.smoke.num_same_text} of {artefact.smoke.num_prompts} answers alike",
        )
        for artefact in artefacts
    ]


def measured_models(run: RunFolder) -> list[MeasuredModel]:
    """The figures of every model that stage `evaluate` measured, teacher and students first."""
    folder = run.stage("evaluate") / "models"
    models = [validated(MeasuredModel, read_json(path), source=str(path)) for path in sorted(folder.glob("*.json"))]
    return sorted(models, key=lambda model: ("teacher", "student", "export").index(model.kind))


def _samples(run: RunFolder) -> list[Sample]:
    """Held-out test conversations with the answers of teacher and students side by side."""
    settings = run.recipe.evaluate
    if settings is None:
        return []
    test = read_conversations(run.conversations("test"))[: settings.num_conversations]
    answers = {model.name: model.sets[TEST].answers for model in measured_models(run) if model.kind != "export"}
    return side_by_side(test, answers, num_samples=settings.num_samples_shown)


def _by_category(run: RunFolder) -> dict[str, dict[str, float]]:
    """Accuracy by category, on the questions where the run has them, else on the test conversations."""
    shares: dict[str, dict[str, float]] = {}
    for model in measured_models(run):
        for category, share in model.sets.get(QUESTIONS, model.sets[TEST]).accuracy_by_category.items():
            shares.setdefault(category, {})[model.name] = share
    return shares
