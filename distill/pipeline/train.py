"""Stage `train`: the DeepSpeed student trainer on pairs and cached distributions."""

from distill.data import template_hash
from distill.models import LoadedModel, model_fingerprint
from distill.pipeline.cache import data_fingerprint, has_teacher_cache, max_length_tokens, scored_pairs
from distill.pipeline.cache_sources import read_sources
from distill.pipeline.merged import with_merged_checkpoint
from distill.pipeline.pairs_files import counts_by_stage
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import load_start, settings_here, trainable_start
from distill.pipeline.teacher import load_teacher, teacher_tokenizer
from distill.teacher_cache import TeacherCache, served_fingerprint, tokenizer_fingerprint
from distill.training import draws_answers, train


def run_train(run: RunFolder) -> dict[str, object]:
    """Trains the student from the cache; `model/` in the stage's folder is the result.

    Adapters end in `merged/` too, with their base in one checkpoint.
    """
    summary = _trained(run)
    return {**summary, **with_merged_checkpoint(run.stage("train"))}


def _trained(run: RunFolder) -> dict[str, object]:
    settings = run.recipe.train
    assert settings is not None
    start = load_start(run)
    teacher_cache = cache_of_teacher(run) if has_teacher_cache(run) else None
    reference_cache = cache_of_reference(run, start)
    student = trainable_start(run, start)
    pairs = scored_pairs(run, student.tokenizer)
    report = train(
        student,
        pairs.students,
        settings=settings_here(run, settings),
        output_dir=run.stage("train"),
        seed=run.recipe.seed,
        teacher_cache=teacher_cache,
        reference_cache=reference_cache,
        live_teacher=load_teacher(run) if draws_answers(settings) else None,
        teacher_pairs=pairs.teachers,
    )
    counts = counts_by_stage(run.pairs_files, [pair.id for pair in pairs.students])
    return {"num_pairs": len(pairs.students), "num_pairs_by_stage": counts, **report.to_json()}


def cache_of_teacher(run: RunFolder) -> TeacherCache:
    """The teacher's cache, if it was made from this run's teacher, tokenizer, template, truncation and pairs.

    Raises:
        CacheError: names the first field that differs, with both values.
    """
    tokenizer = teacher_tokenizer(run)
    cache = TeacherCache.open(run.stage("cache") / "teacher")
    cache.require(
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        template_hash=template_hash(tokenizer),
        teacher_fingerprint=_fingerprint_of_teacher(run),
        max_length_tokens=max_length_tokens(run),
        data_fingerprint=data_fingerprint(run),
    )
    return cache


def cache_of_reference(run: RunFolder, start: LoadedModel) -> TeacherCache:
    """The reference policy's cache, if it was made from `start` and this run's pairs.

    Raises:
        CacheError: names the first field that differs, with both values.
    """
    cache = TeacherCache.open(run.stage("cache") / "reference")
    cache.require(
        tokenizer_fingerprint=tokenizer_fingerprint(start.tokenizer),
        template_hash=template_hash(start.tokenizer),
        teacher_fingerprint=start.fingerprint,
        max_length_tokens=max_length_tokens(run),
        data_fingerprint=data_fingerprint(run),
    )
    return cache


def _fingerprint_of_teacher(run: RunFolder) -> str:
    """The fingerprint of the recipe's teacher; one behind a server is what the server called it, which may be gone."""
    teacher = run.recipe.teacher
    assert teacher is not None
    if teacher.endpoint is None:
        return model_fingerprint(
            run.teacher_source,
            dtype=teacher.dtype,
            quantization=teacher.quantization,
            revision=teacher.revision,
            chat_template=run.chat_template(teacher),
        )
    served = read_sources(run.stage("cache")).served_teacher
    return served_fingerprint("" if served is None else served, teacher.endpoint, teacher_tokenizer(run))
