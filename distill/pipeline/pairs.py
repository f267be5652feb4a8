"""Stage `pairs`: for each prompt one answer of the teacher (chosen) and one of the student (rejected)."""

from distill.decoding import TransformersGenerator
from distill.files import fingerprint
from distill.pipeline.cache import shares_vocabulary
from distill.pipeline.prompts import prompts_of_pairs
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import load_start
from distill.pipeline.teacher import teacher_generator
from distill.preference import write_pairs_stage
from distill.reward import Scorer, load_scorer


def run_pairs(run: RunFolder) -> dict[str, object]:
    """Writes `pairs.jsonl`; identical, empty and unfinished answers are dropped and counted."""
    settings = run.recipe.pairs
    assert settings is not None
    shares_vocabulary(run)
    teacher, teacher_fingerprint = teacher_generator(run, settings.linear_alignment)
    student = load_start(run)
    scorer = pairs_scorer(run)
    made_of = [teacher_fingerprint, student.fingerprint, *([] if scorer is None else [scorer.identity])]
    report = write_pairs_stage(
        prompts_of_pairs(run),
        teacher=teacher,
        student=TransformersGenerator(student),
        settings=settings,
        seed=run.recipe.seed,
        output_dir=run.stage("pairs"),
        scorer=scorer,
        models_fingerprint=fingerprint(made_of),
    )
    return report.to_json()


def pairs_scorer(run: RunFolder) -> Scorer | None:
    """What `pairs.reward` asks: the named model, or the one that stage `reward` made.

    Raises:
        ModelError: it cannot be loaded.
    """
    assert run.recipe.pairs is not None
    settings = run.recipe.pairs.reward
    if settings is None:
        return None
    return load_scorer(settings.model or run.stage("reward") / "model", device=run.recipe.student.device)
