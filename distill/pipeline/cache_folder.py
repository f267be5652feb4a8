"""A cache that a run made, seen from its folder: which pairs it covers, and which teacher filled it."""

from pathlib import Path

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.pipeline.cache import PAIR_IDS_NAME, sequences_of
from distill.pipeline.cache_sources import SOURCES_NAME, CacheSources, read_sources
from distill.pipeline.pairs_files import PAIR_STAGES, PAIRS_NAME, pairs_fingerprint, read_all_pairs
from distill.pipeline.tokenized import tokenized_pairs
from distill.teacher_cache import SCORE_CODECS, Histogram, TeacherCache, TeacherSource, histograms, read_manifest
from eval.cache_fidelity import CacheFidelity, cache_fidelity

TEACHER_NAME, REFERENCE_NAME = "teacher", "reference"


def histograms_of(folder: Path) -> dict[str, Histogram]:
    """Entropy of a cache's distributions; of a run's teacher also delta_te, from what stands beside its cache.

    Raises:
        CacheError: a cache cannot be read.
    """
    folder = folder.resolve()
    reference, pair_ids = folder.parent / REFERENCE_NAME, folder.parent / PAIR_IDS_NAME
    is_pair = folder.name != REFERENCE_NAME and (reference / "manifest.json").exists() and pair_ids.exists()
    if not is_pair or not _tells_scores(folder) or not _tells_scores(reference):
        return histograms(folder)
    return histograms(folder, reference=reference, pair_ids=pair_ids)


def fidelity_of(folder: Path, *, num_sequences: int) -> CacheFidelity:
    """Loads the model that filled a run's cache, and compares every tier with it.

    Args:
        folder: `RUN/cache/teacher` or `RUN/cache/reference`.
        num_sequences: how many, spread evenly over the cache.

    Raises:
        CacheError: the folder is not in a run, the run's pairs or the model have changed since, or a server filled it.
        ModelError: the model cannot be loaded.
    """
    folder = folder.resolve()
    cache = TeacherCache.open(folder)
    sources = read_sources(folder.parent)
    source = _source_of(folder, sources)
    sequences = _sequences(folder, cache, tokenized_as=sources.reference)
    loaded = source.load()
    cache.require(teacher_fingerprint=loaded.fingerprint)
    step = max(1, len(sequences) // max(1, num_sequences))
    return cache_fidelity(cache, loaded, sequences[::step][:num_sequences])


def _tells_scores(folder: Path) -> bool:
    return bool(set(read_manifest(folder).codecs) & set(SCORE_CODECS))


def _source_of(folder: Path, sources: CacheSources) -> TeacherSource:
    """Where the model is that filled the cache."""
    source = {TEACHER_NAME: sources.teacher, REFERENCE_NAME: sources.reference}.get(folder.name)
    if source is not None:
        return source
    is_served = folder.name == TEACHER_NAME and sources.served_teacher is not None
    raise CacheError(
        f"teacher cache {folder} cannot be compared with its teacher",
        why="a server filled it, and shows log-probs of tokens only"
        if is_served
        else f"{folder.parent / SOURCES_NAME} names no model of a cache {folder.name}",
        fix=f"distill cache verify {folder}",
    )


def _sequences(folder: Path, cache: TeacherCache, *, tokenized_as: TeacherSource) -> list[TokenizedSequence]:
    """The run's pairs as tokens again, prompts included, each sequence once."""
    pairs = tokenized_pairs(
        tokenized_as.load_tokenizer(),
        read_all_pairs(_pairs_files(folder, cache)),
        max_length_tokens=cache.manifest.max_length_tokens,
    )
    return list({sequence.sequence_id: sequence for sequence in sequences_of(pairs)}.values())


def _pairs_files(folder: Path, cache: TeacherCache) -> dict[str, Path]:
    """Those of the run's files of pairs that the cache was made from: one stage's, or all of them together."""
    paths = {stage: folder.parents[1] / stage / PAIRS_NAME for stage in PAIR_STAGES}
    found = {stage: path for stage, path in paths.items() if path.exists()}
    if not found:
        raise CacheError(
            f"the pairs of teacher cache {folder} are not at {' or '.join(map(str, paths.values()))}",
            why="a cache stores completions only; the prompts are read from the run's pairs",
            fix="move the run's folder as a whole",
        )
    choices = [{stage: path} for stage, path in found.items()]
    made_of = cache.manifest.data_fingerprint
    files = next((choice for choice in choices if pairs_fingerprint(choice.values()) == made_of), found)
    cache.require(data_fingerprint=pairs_fingerprint(files.values()))
    return files
