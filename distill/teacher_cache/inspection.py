"""What a cache holds, and whether it still is what was written."""

from pathlib import Path

from distill.errors import CacheError
from distill.files import sha256_of_file
from distill.teacher_cache.codecs import CODECS
from distill.teacher_cache.head_file import read_head
from distill.teacher_cache.manifest import HEAD_NAME, SHARDS_NAME, CacheManifest, read_manifest
from distill.teacher_cache.reader import open_shard
from distill.teacher_cache.shard import damaged


def inspect(folder: Path) -> dict[str, object]:
    """The cache in figures, finished or not; reads the manifest and file sizes only.

    Raises:
        CacheError: there is no cache, or its manifest is damaged.
    """
    manifest = read_manifest(folder)
    shard_bytes = sum(record.size_bytes for record in manifest.shards)
    finished_tokens = sum(record.num_tokens for record in manifest.shards)
    head = folder / HEAD_NAME
    return {
        "folder": str(folder),
        "codec": manifest.codec,
        "stores": CODECS[manifest.codec].summary,
        "hidden_dtype": manifest.hidden_dtype,
        "is_complete": manifest.complete,
        "num_shards": manifest.num_shards,
        "num_finished_shards": len(manifest.shards),
        "num_sequences": manifest.num_sequences,
        "num_tokens": manifest.num_tokens,
        "size_bytes": shard_bytes + (head.stat().st_size if head.exists() else 0),
        "bytes_per_token": shard_bytes / finished_tokens if finished_tokens else None,
        "vocab_size": manifest.vocab_size,
        "hidden_size": manifest.hidden_size,
        "max_length_tokens": manifest.max_length_tokens,
        "teacher_fingerprint": manifest.teacher_fingerprint,
        "tokenizer_fingerprint": manifest.tokenizer_fingerprint,
        "template_hash": manifest.template_hash,
        "data_fingerprint": manifest.data_fingerprint,
        "versions": dict(manifest.versions),
    }


def verify(folder: Path) -> dict[str, object]:
    """Reads every byte of a cache again: checksums, layout, finite numbers, totals.

    Returns:
        The figures of `inspect`.

    Raises:
        CacheError: the manifest cannot be read, the cache is not finished, or files are damaged; names all of them.
    """
    manifest = read_manifest(folder)
    if not manifest.complete:
        raise CacheError(
            f"teacher cache {folder} is not finished: {len(manifest.shards)} of {manifest.num_shards} shards",
            why="only a finished cache can be verified",
            fix="run the command that makes it again; it goes on where it stopped",
        )
    manifest.require_consistent(folder=folder)
    problems: list[str] = []
    ids: set[str] = set()
    if CODECS[manifest.codec].has_distributions:
        problems += _problems_of_head(folder, manifest)
    for number in range(len(manifest.shards)):
        problems += _problems_of_shard(folder, manifest, number, ids)
    if problems:
        raise CacheError(
            f"teacher cache {folder}: {len(problems)} of its files are damaged: " + "; ".join(problems),
            why="scores that changed after they were written cannot be trained on",
            fix="run the command that makes it again; only damaged files are written anew",
        )
    return inspect(folder)


def _problems_of_head(folder: Path, manifest: CacheManifest) -> list[str]:
    path = folder / HEAD_NAME
    assert manifest.hidden_size is not None
    try:
        head = read_head(path, vocab_size=manifest.vocab_size, hidden_size=manifest.hidden_size)
        if sha256_of_file(path) != manifest.head_sha256:
            raise damaged(path, "its checksum is not the manifest's")
        if not all(bool(tensor.isfinite().all()) for tensor in (head.weight, head.bias) if tensor is not None):
            raise damaged(path, "it holds numbers that are not finite")
    except CacheError as error:
        return [error.what]
    return []


def _problems_of_shard(folder: Path, manifest: CacheManifest, number: int, ids: set[str]) -> list[str]:
    """The shard's first problem, if any; its ids are added to `ids`."""
    record = manifest.shards[number]
    path = folder / SHARDS_NAME / record.name
    try:
        reader = open_shard(folder, manifest, record, checks_checksum=True)
        if ids.intersection(reader.sequence_ids):
            raise damaged(path, "it holds a sequence of another shard")
        ids.update(reader.sequence_ids)
        names = manifest.layout.names - {"ids", "offsets", "completion_ids"}
        for row in range(reader.num_sequences):
            if not all(bool(reader.rows(name, row).isfinite().all()) for name in names):
                raise damaged(path, f"sequence {reader.sequence_ids[row][:12]} holds numbers that are not finite")
    except CacheError as error:
        return [error.what]
    return []
