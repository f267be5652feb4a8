"""Stage `pairs`: for each prompt one answer of the teacher (chosen) and one of the student (rejected)."""

from distill.decoding import TransformersGenerator
from distill.files import fingerprint
from distill.pipeline.cache import shares_vocabulary
from distill.pipeline.prompts import prompts_of_pairs
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import load_start
from distill.pipeline.teacher import teacher_generator
from distill.preference import write_pairs_stage


def run_pairs(run: RunFolder) -> dict[str, object]:
    """Writes `pairs.jsonl`; identical, empty and unfinished answers are dropped and counted."""
    settings = run.recipe.pairs
    assert settings is not None
    shares_vocabulary(run)
    teacher, teacher_fingerprint = teacher_generator(run)
    student = load_start(run)
    report = write_pairs_stage(
        prompts_of_pairs(run),
        teacher=teacher,
        student=TransformersGenerator(student),
        settings=settings,
        seed=run.recipe.seed,
        output_dir=run.stage("pairs"),
        models_fingerprint=fingerprint([teacher_fingerprint, student.fingerprint]),
    )
    return report.to_json()
