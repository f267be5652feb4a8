"""Stage `export`: the student as merged and quantized artefacts."""

from pathlib import Path

from distill.data import read_conversations
from distill.errors import RecipeError
from distill.export import export_model, lineage
from distill.pipeline.recipe import Recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.stage_settings import TeacherSettings

_SUMMARY = ("size_bytes", "kl_nats", "same_top_token", "same_text", "runtime")


def run_export(run: RunFolder) -> dict[str, object]:
    """Writes one folder a format, each loaded by its real runtime and compared with the merged model."""
    settings = run.recipe.export
    assert settings is not None
    source = run.final_source
    if not isinstance(source, Path):
        raise RecipeError(f"export takes a model folder, not the hub id {source}", fix="add an sft or train section")
    report = export_model(
        source,
        formats=settings.formats,
        output_dir=run.stage("export"),
        prompts=read_conversations(run.conversations("valid"))[: settings.num_fidelity_conversations],
        settings=settings,
        lineage=_lineage(run),
    )
    return {str(row["format"]): {name: row[name] for name in _SUMMARY} for row in report.rows()}


def _lineage(run: RunFolder) -> dict[str, str]:
    """What the model cards say of where the student comes from; of paths their last part, which is no machine's own."""
    recipe, settings = run.recipe, run.recipe.export
    assert settings is not None
    data = recipe.data
    told = {
        lineage.TEACHER: _teacher_name(recipe.teacher),
        lineage.TEACHER_LICENCE: settings.teacher_licence,
        lineage.STUDENT: _student_name(recipe),
        lineage.DATA: data.hub_id or data.source,
        lineage.DATA_LICENCE: settings.data_licence,
        lineage.OBJECTIVE: ", then ".join(
            stage.objective.name for stage in (recipe.sft, recipe.train) if stage is not None
        ),
        lineage.RECIPE: run.loaded.path.name,
        lineage.LICENCE: settings.licence,
    }
    return {name: lineage.shown_name(str(value)) for name, value in told.items() if value}


def _teacher_name(teacher: TeacherSettings | None) -> str | None:
    if teacher is None:
        return None
    if teacher.endpoint is not None:
        return teacher.endpoint.model
    return teacher.path or f"made by {teacher.recipe.name if teacher.recipe is not None else 'another recipe'}"


def _student_name(recipe: Recipe) -> str | None:
    """What the student was before it learnt: a model, or the teacher with layers and heads cut out."""
    if recipe.student.prune is not None:
        return _teacher_name(recipe.teacher)
    return recipe.student.path or "random weights"
