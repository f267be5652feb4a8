"""Stage `cache`: the teacher and the reference policy score both completions of every pair."""

import logging
from collections.abc import Sequence

from distill.data import TokenizedPair, TokenizedSequence, read_pairs
from distill.errors import RecipeError
from distill.files import sha256_of_file
from distill.models import LoadedModel, load_tokenizer, same_vocabulary
from distill.objectives import OBJECTIVES
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import load_start, load_teacher
from distill.pipeline.tokenized import tokenized_pairs
from distill.teacher_cache import CacheSettings, TeacherCache, score_sequences

log = logging.getLogger(__name__)


def run_cache(run: RunFolder) -> dict[str, object]:
    """Writes `cache/teacher` and `cache/reference`, both addressed by sequence id."""
    settings = run.recipe.cache
    assert settings is not None
    reference = load_start(run)
    sequences = sequences_of(pairs_of(run, reference))
    scored = {}
    if shares_vocabulary(run):
        scored["teacher"] = _score(run, load_teacher(run), sequences, settings, "teacher")
    scores_only = settings.model_copy(update={"codec": "scores"})
    scored["reference"] = _score(run, reference, sequences, scores_only, "reference")
    return {
        name: {"num_sequences": cache.manifest.num_sequences, "num_tokens": cache.manifest.num_tokens}
        for name, cache in scored.items()
    }


def shares_vocabulary(run: RunFolder) -> bool:
    """Whether teacher and student share one vocabulary; False only where the objective can do without.

    Raises:
        RecipeError: the objective needs one vocabulary; says in which way the tokenizers differ.
    """
    teacher, student = run.recipe.teacher, run.recipe.student
    assert teacher is not None
    reason = same_vocabulary(
        load_tokenizer(run.teacher_source, revision=teacher.revision),
        load_tokenizer(run.start_source, revision=student.revision),
    )
    if reason is None:
        return True
    name = run.recipe.train.objective.name if run.recipe.train is not None else "cache"
    if name == "cache" or OBJECTIVES[name].needs_one_vocabulary:
        raise RecipeError(
            f"teacher and student have different tokenizers: {reason}",
            why=f"objective {name} compares both models on the same token ids",
            fix="choose a student of the teacher's family, or give the student the teacher's tokenizer",
        )
    log.info("teacher and student have different tokenizers (%s): the teacher scores nothing for %s", reason, name)
    return False


def pairs_of(run: RunFolder, student: LoadedModel) -> list[TokenizedPair]:
    """The stage `pairs` as tokens, cut as the cache and the trainer both cut them."""
    settings = run.recipe.cache
    assert settings is not None
    return tokenized_pairs(
        student.tokenizer,
        read_pairs(run.stage("pairs") / "pairs.jsonl"),
        max_length_tokens=settings.max_length_tokens,
    )


def sequences_of(pairs: Sequence[TokenizedPair]) -> list[TokenizedSequence]:
    """Both completions of every pair."""
    return [sequence for pair in pairs for sequence in (pair.chosen, pair.rejected)]


def _score(
    run: RunFolder, model: LoadedModel, sequences: Sequence[TokenizedSequence], settings: CacheSettings, name: str
) -> TeacherCache:
    return score_sequences(
        model,
        sequences,
        settings=settings,
        output_dir=run.stage("cache") / name,
        data_fingerprint=sha256_of_file(run.stage("pairs") / "pairs.jsonl"),
    )
