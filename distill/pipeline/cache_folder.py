"""A cache that a run made, seen from its folder: which pairs it covers, and which teacher filled it."""

from pathlib import Path

from distill.data import TokenizedSequence, read_pairs
from distill.errors import CacheError, DataError
from distill.files import read_json, sha256_of_file
from distill.pipeline.cache import PAIR_IDS_NAME, SOURCES_NAME, sequences_of
from distill.pipeline.tokenized import tokenized_pairs
from distill.settings import Settings, validated
from distill.teacher_cache import SCORE_CODECS, Histogram, TeacherCache, TeacherSource, histograms, read_manifest
from eval.cache_fidelity import CacheFidelity, cache_fidelity

REFERENCE_NAME = "reference"
PAIRS_PATH = Path("pairs") / "pairs.jsonl"


class _Sources(Settings):
    """The file beside the caches of a run, as plain values."""

    teacher: dict[str, object] | None = None
    reference: dict[str, object] | None = None


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
    sources = _sources(folder)
    source = sources.get(folder.name)
    if source is None:
        raise CacheError(
            f"teacher cache {folder} cannot be compared with its teacher",
            why="a server filled it, and shows log-probs of tokens only",
            fix=f"distill cache verify {folder}",
        )
    sequences = _sequences(folder, cache, tokenized_as=sources[REFERENCE_NAME])
    loaded = source.load()
    cache.require(teacher_fingerprint=loaded.fingerprint)
    step = max(1, len(sequences) // max(1, num_sequences))
    return cache_fidelity(cache, loaded, sequences[::step][:num_sequences])


def _tells_scores(folder: Path) -> bool:
    return bool(set(read_manifest(folder).codecs) & set(SCORE_CODECS))


def _sources(folder: Path) -> dict[str, TeacherSource]:
    """Where the models of the run's caches were loaded from, by the name of the cache."""
    path = folder.parent / SOURCES_NAME
    try:
        values = read_json(path)
    except DataError as error:
        raise CacheError(
            f"teacher cache {folder} does not say where its teacher is: {error.what}",
            why="a run writes that file beside its caches; the prompts and the model are found through it",
            fix="name a cache inside its run's folder: distill cache verify RUN/cache/teacher --against-teacher N",
        ) from error
    found = validated(_Sources, values, source=str(path)).model_dump()
    return {name: TeacherSource(**value) for name, value in found.items() if value is not None}


def _sequences(folder: Path, cache: TeacherCache, *, tokenized_as: TeacherSource) -> list[TokenizedSequence]:
    """The run's pairs as tokens again, prompts included, each sequence once."""
    path = folder.parents[1] / PAIRS_PATH
    if not path.exists():
        raise CacheError(
            f"the pairs of teacher cache {folder} are not at {path}",
            why="a cache stores completions only; the prompts are read from the run's pairs",
            fix="move the run's folder as a whole",
        )
    cache.require(data_fingerprint=sha256_of_file(path))
    pairs = tokenized_pairs(
        tokenized_as.load_tokenizer(), read_pairs(path), max_length_tokens=cache.manifest.max_length_tokens
    )
    return list({sequence.sequence_id: sequence for sequence in sequences_of(pairs)}.values())
