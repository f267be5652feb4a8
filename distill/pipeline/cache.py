"""Stage `cache`: the teacher and the reference policy score both completions of every pair."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data import TokenizedPair, TokenizedSequence, end_of_turn_id
from distill.errors import RecipeError, StageError
from distill.models import Tokenizer, load_tokenizer, same_vocabulary
from distill.objectives import OBJECTIVES
from distill.pipeline.cache_sources import write_sources
from distill.pipeline.pairs_files import pairs_fingerprint, read_all_pairs
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.teacher import described_start, teacher_scorer, teacher_tokenizer
from distill.pipeline.tokenized import tokenized_pairs, whole_in_both
from distill.teacher_cache import (
    CacheSettings,
    EndpointTeacher,
    TeacherCache,
    TeacherSource,
    fill_cache,
    inspect,
    is_being_written,
    read_manifest,
    write_pair_ids,
)
from distill.training import is_main_rank

log = logging.getLogger(__name__)

PAIR_IDS_NAME = "pair_ids.jsonl"


def run_cache(run: RunFolder) -> dict[str, object]:
    """Writes `cache/teacher` and `cache/reference`, both addressed by sequence id.

    Beside them stand the sequence ids of each pair, where both models cut it alike, and where both models were loaded
    from. A teacher of another tokenizer scores the same texts as its own cuts them.
    """
    settings = run.recipe.cache
    assert settings is not None
    start = described_start(run)
    pairs = scored_pairs(run, start.load_tokenizer())
    scorers: dict[str, TeacherSource | EndpointTeacher] = {}
    if has_teacher_cache(run):
        scorers["teacher"] = teacher_scorer(run)
    scorers["reference"] = start
    cut = {"teacher": pairs.students if pairs.teachers is None else pairs.teachers, "reference": pairs.students}
    if is_main_rank():
        if pairs.teachers is None:
            write_pair_ids(run.stage("cache") / PAIR_IDS_NAME, pairs.students)
        write_sources(run.stage("cache"), scorers)
    summary: dict[str, object] = {}
    for name, scorer in scorers.items():
        own = settings if name == "teacher" else settings.model_copy(update={"codec": "scores"})
        filled = _filled(run, scorer, sequences_of(cut[name]), own, name)
        figures = inspect(filled.folder)
        told = {key: figures[key] for key in ("num_sequences", "num_tokens", "size_bytes")}
        summary[name] = {"tiers": list(filled.tiers), **told}
    return summary


def shares_vocabulary(run: RunFolder) -> bool:
    """Whether teacher and student share one vocabulary; False only where the objective can do without.

    Raises:
        RecipeError: the objective compares token ids; says in which way the tokenizers differ.
    """
    teacher, student = run.recipe.teacher, run.recipe.student
    assert teacher is not None
    reason = same_vocabulary(
        load_tokenizer(run.teacher_source, revision=teacher.revision),
        load_tokenizer(run.start_source, revision=student.revision),
    )
    if reason is None:
        return True
    objective = None if run.recipe.train is None else run.recipe.train.objective
    if objective is None or OBJECTIVES[objective.name].compares_token_ids(objective):
        name = "cache" if objective is None else objective.name
        raise RecipeError(
            f"teacher and student have different tokenizers: {reason}",
            why=f"objective {name} compares both models on the same token ids",
            fix="choose a student of the teacher's family, give the student the teacher's tokenizer, or choose "
            "objective dadpo without token_divergence, or kd with divergence uld",
        )
    log.info("teacher and student have different tokenizers (%s)", reason)
    return False


def has_teacher_cache(run: RunFolder) -> bool:
    """Whether the teacher scores the pairs; not where its tokenizer is another and the objective never asks it.

    Raises:
        RecipeError: the objective compares token ids, and the tokenizers differ.
    """
    if shares_vocabulary(run):
        return True
    assert run.recipe.train is not None
    objective = run.recipe.train.objective
    return OBJECTIVES[objective.name].needs_teacher_cache(objective)


@dataclass(frozen=True)
class ScoredPairs:
    """The pairs as the student's tokenizer cuts them; `teachers`: as the teacher's does, where that is another one."""

    students: list[TokenizedPair]
    teachers: list[TokenizedPair] | None = None


def scored_pairs(run: RunFolder, tokenizer: Tokenizer) -> ScoredPairs:
    """The run's pairs as tokens; where the teacher reads other tokens, those that neither tokenizer cuts off.

    Args:
        run: whose pairs.
        tokenizer: the student's.

    Raises:
        RecipeError: the objective compares token ids, and the tokenizers differ.
        DataError: no pair is left.
    """
    own = pairs_of(run, tokenizer)
    if shares_vocabulary(run) or not has_teacher_cache(run):
        return ScoredPairs(own)
    other = teacher_tokenizer(run)
    students, teachers = whole_in_both(
        own,
        pairs_of(run, other),
        end_ids=(end_of_turn_id(tokenizer), end_of_turn_id(other)),
        max_length_tokens=max_length_tokens(run),
    )
    return ScoredPairs(students, teachers)


def pairs_of(run: RunFolder, tokenizer: Tokenizer) -> list[TokenizedPair]:
    """The run's pairs as tokens, one making stage after the other, cut as the cache and the trainer both cut them."""
    return tokenized_pairs(tokenizer, read_all_pairs(run.pairs_files), max_length_tokens=max_length_tokens(run))


def max_length_tokens(run: RunFolder) -> int:
    """Where the pairs are cut off."""
    assert run.recipe.cache is not None
    return run.recipe.cache.max_length_tokens


def data_fingerprint(run: RunFolder) -> str:
    """What the caches of the run are made from, besides the models."""
    return pairs_fingerprint(run.pairs_files.values())


def sequences_of(pairs: Sequence[TokenizedPair]) -> list[TokenizedSequence]:
    """Both completions of every pair."""
    return [sequence for pair in pairs for sequence in (pair.chosen, pair.rejected)]


def holds_tiers(run: RunFolder) -> bool:
    """Whether the teacher's cache, where there is one, has every tier that the recipe asks for, and maybe more.

    Raises:
        CacheError: the cache's manifest is damaged.
    """
    assert run.recipe.cache is not None
    folder = run.stage("cache") / "teacher"
    if not folder.exists():
        return True
    return set(run.recipe.cache.tiers) <= {tier.settings for tier in read_manifest(folder).complete_tiers.values()}


def refuse_busy(folder: Path) -> None:
    """Refuses to start a stage over that other processes are still at.

    Raises:
        StageError: a worker holds a claim whose lease runs.
    """
    busy = [cache for cache in (folder / "teacher", folder / "reference") if is_being_written(cache)]
    if busy:
        raise StageError(
            f"{busy[0]} is being written by other workers",
            why="starting over would delete what they are at",
            fix="wait until they are done; of those killed on other hosts the lease has to end (cache.lease_s seconds)",
        )


def _filled(
    run: RunFolder,
    scorer: TeacherSource | EndpointTeacher,
    sequences: Sequence[TokenizedSequence],
    settings: CacheSettings,
    name: str,
) -> TeacherCache:
    return fill_cache(
        scorer,
        sequences,
        settings=settings,
        output_dir=run.stage("cache") / name,
        data_fingerprint=data_fingerprint(run),
    )
