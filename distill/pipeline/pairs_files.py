"""The files of pairs that a run trains on: one of each stage that makes pairs, read one after the other."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from distill.data import PreferencePair, read_pairs
from distill.files import fingerprint, sha256_of_file

PAIR_STAGES = ("pairs", "safer_instruct")
PAIRS_NAME = "pairs.jsonl"


def read_all_pairs(files: Mapping[str, Path]) -> list[PreferencePair]:
    """The pairs of every file, in the order of the files.

    Raises:
        DataError: a file is missing, or a row is wrong.
    """
    return [pair for path in files.values() for pair in read_pairs(path)]


def pairs_fingerprint(files: Iterable[Path]) -> str:
    """What a cache of these pairs is made from; of one file its SHA-256."""
    hashes = [sha256_of_file(path) for path in files]
    return hashes[0] if len(hashes) == 1 else fingerprint(hashes)


def counts_by_stage(files: Mapping[str, Path], ids: Collection[str]) -> dict[str, int]:
    """How many of the pairs with these ids each stage made."""
    made_by = {pair.id: stage for stage, path in files.items() for pair in read_pairs(path)}
    counts = Counter(made_by[name] for name in ids)
    return {stage: counts[stage] for stage in files}
