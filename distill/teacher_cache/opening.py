"""The files of a finished cache, each held against its record in the manifest when it is opened."""

from pathlib import Path

from distill.files import sha256_of_file
from distill.teacher_cache.cache_file import damaged
from distill.teacher_cache.codecs import Codec
from distill.teacher_cache.manifest import CacheManifest, FileRecord, sequences_path, tier_path
from distill.teacher_cache.shard import SequencesReader, TierReader


def open_sequences(folder: Path, manifest: CacheManifest, number: int, *, checks_checksum: bool) -> SequencesReader:
    """Opens the sequences of shard `number`.

    Raises:
        CacheError: the file is missing, cut off, changed, or breaks the layout; names it.
    """
    path, record = sequences_path(folder, number), manifest.sequences[number]
    _require_bytes(path, record, checks_checksum=checks_checksum)
    reader = SequencesReader(path, vocab_size=manifest.vocab_size)
    if (reader.num_sequences, reader.num_tokens) != (record.num_sequences, record.num_tokens):
        raise damaged(
            path,
            f"it holds {reader.num_sequences} sequences and {reader.num_tokens} tokens, "
            f"not {record.num_sequences} and {record.num_tokens}",
        )
    return reader


def open_tier_shard(
    folder: Path, manifest: CacheManifest, codec: Codec, number: int, *, checks_checksum: bool
) -> TierReader:
    """Opens shard `number` of a complete tier.

    Args:
        folder: the cache's.
        manifest: the cache's.
        codec: the tier's.
        number: which shard.
        checks_checksum: read all of it once and hold it against its sha256 and its codec.

    Raises:
        CacheError: the file is missing, cut off, changed, belongs to other sequences, or holds wrong numbers; names it.
    """
    path = tier_path(folder, codec.settings.codec, number)
    record = manifest.complete_tiers[codec.settings.codec].shards[number]
    _require_bytes(path, record, checks_checksum=checks_checksum)
    reader = TierReader(path, codec, num_tokens=record.num_tokens, sequences_sha256=manifest.sequences[number].sha256)
    if checks_checksum:
        reader.check_numbers()
    return reader


def _require_bytes(path: Path, record: FileRecord, *, checks_checksum: bool) -> None:
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise damaged(path, "the file is missing") from error
    if size_bytes != record.size_bytes:
        raise damaged(path, f"it has {size_bytes} bytes, not {record.size_bytes}")
    if checks_checksum:
        require_checksum(path, record.sha256)


def require_checksum(path: Path, sha256: str | None) -> None:
    """Reads a file of a cache once, and refuses it where it changed since it was written.

    Raises:
        CacheError: it cannot be read, or has other bytes; names it.
    """
    try:
        found = sha256_of_file(path)
    except OSError as error:
        raise damaged(path, f"the file cannot be read: {error.strerror}") from error
    if found != sha256:
        raise damaged(path, "its checksum is not the manifest's")
