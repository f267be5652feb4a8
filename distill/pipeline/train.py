"""Stage `train`: the DeepSpeed student trainer on pairs and cached distributions."""

from distill.pipeline.cache import pairs_of, shares_vocabulary
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import load_start, settings_here, with_adapters
from distill.teacher_cache import TeacherCache
from distill.training import train


def run_train(run: RunFolder) -> dict[str, object]:
    """Trains the student from the cache; `model/` in the stage's folder is the result."""
    settings = run.recipe.train
    assert settings is not None
    student = load_start(run)
    if run.recipe.sft is None:
        student = with_adapters(run, student)
    pairs = pairs_of(run, student)
    report = train(
        student,
        pairs,
        settings=settings_here(run, settings),
        output_dir=run.stage("train"),
        seed=run.recipe.seed,
        teacher_cache=TeacherCache.open(run.stage("cache") / "teacher") if shares_vocabulary(run) else None,
        reference_cache=TeacherCache.open(run.stage("cache") / "reference"),
    )
    return {"num_pairs": len(pairs), **report.to_json()}
