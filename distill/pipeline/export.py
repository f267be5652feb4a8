"""Stage `export`: the student as merged and quantized artefacts."""

from pathlib import Path

from distill.data import read_conversations
from distill.errors import RecipeError
from distill.export import export_model
from distill.pipeline.run_folder import RunFolder


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
    return report.to_json()


def _lineage(run: RunFolder) -> dict[str, str]:
    """What the model cards say of where the student comes from."""
    recipe = run.recipe
    data = recipe.data
    told = {"recipe": run.loaded.path.name, "data": data.hub_id or data.source}
    if recipe.teacher is not None:
        served = None if recipe.teacher.endpoint is None else recipe.teacher.endpoint.model
        told["teacher"] = served or recipe.teacher.path or f"made by {recipe.teacher.recipe}"
    if recipe.train is not None:
        told["objective"] = recipe.train.objective.name
    return told
