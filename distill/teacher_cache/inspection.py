"""What a cache holds, and whether it still is what was written."""

from pathlib import Path

from distill.errors import CacheError
from distill.teacher_cache.codecs import CODECS
from distill.teacher_cache.head_file import read_head
from distill.teacher_cache.manifest import (
    HEAD_NAME,
    CacheManifest,
    ShardRecord,
    TierManifest,
    read_manifest,
)
from distill.teacher_cache.opening import open_sequences, open_tier_shard, require_checksum
from distill.teacher_cache.sequence_index import SequenceIndex
from distill.teacher_cache.shard import SequencesReader
from distill.teacher_cache.shard_records import read_shard_record


def inspect(folder: Path) -> dict[str, object]:
    """The cache in figures, finished or not; reads the manifest, file sizes and commit markers only.

    Returns:
        Figures by name; `tiers` lists one mapping a tier, whose `bytes_per_token` leaves out the head and the ids.

    Raises:
        CacheError: there is no cache, or its manifest is damaged.
    """
    manifest = read_manifest(folder)
    tiers = [_tier_figures(folder, manifest, tier) for tier in manifest.tiers]
    sequences_bytes = sum(record.size_bytes for record in manifest.sequences)
    head = folder / HEAD_NAME
    head_bytes = head.stat().st_size if head.exists() else 0
    shard_bytes = sum(record.size_bytes for tier in manifest.tiers for record in _finished(folder, manifest, tier))
    return {
        "folder": str(folder),
        "is_complete": bool(manifest.tiers) and all(tier.complete for tier in manifest.tiers),
        "tiers": tiers,
        "num_shards": manifest.num_shards,
        "num_sequences": manifest.num_sequences,
        "num_tokens": manifest.num_tokens,
        "size_bytes": sequences_bytes + head_bytes + shard_bytes,
        "sequences_bytes": sequences_bytes,
        "head_bytes": head_bytes,
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
    """Reads every byte of a cache's complete tiers again: checksums, layout, numbers, totals.

    Returns:
        The figures of `inspect`.

    Raises:
        CacheError: the manifest cannot be read, no tier is finished, or files are damaged; names all of them.
    """
    manifest = read_manifest(folder)
    if not manifest.codecs:
        begun = "; ".join(
            f"{tier.codec}: {len(_finished(folder, manifest, tier))} of {manifest.num_shards} shards"
            for tier in manifest.tiers
        )
        raise CacheError(
            f"teacher cache {folder} is not finished: {begun or 'it has no tiers'}",
            why="only finished tiers can be verified",
            fix="run the command that makes it again; it goes on where it stopped",
        )
    problems = [
        *_problems_of_head(folder, manifest),
        *_problems_of_sequences(folder, manifest),
        *_problems_of_tiers(folder, manifest),
    ]
    if problems:
        raise CacheError(
            f"teacher cache {folder}: {len(problems)} of its files are damaged: " + "; ".join(problems),
            why="scores that changed after they were written cannot be trained on",
            fix="run the command that makes it again; only damaged files are written anew",
        )
    return inspect(folder)


def _finished(folder: Path, manifest: CacheManifest, tier: TierManifest) -> list[ShardRecord]:
    """Records of the shards that stand, out of the manifest or, of a tier under way, out of the commit markers."""
    if tier.complete:
        return list(tier.shards)
    found = (read_shard_record(folder, tier.codec, number) for number in range(len(manifest.sequences)))
    return [record for record in found if record is not None]


def _tier_figures(folder: Path, manifest: CacheManifest, tier: TierManifest) -> dict[str, object]:
    records = _finished(folder, manifest, tier)
    size_bytes, num_tokens = sum(r.size_bytes for r in records), sum(r.num_tokens for r in records)
    settings = tier.settings.model_dump(mode="json", exclude_defaults=True, exclude={"codec"})
    return {
        "codec": tier.codec,
        "stores": CODECS[tier.codec].summary,
        "settings": settings,
        "is_complete": tier.complete,
        "num_finished_shards": len(records),
        "size_bytes": size_bytes,
        "bytes_per_token": size_bytes / num_tokens if num_tokens else None,
    }


def _problems_of_head(folder: Path, manifest: CacheManifest) -> list[str]:
    path = folder / HEAD_NAME
    if not any(CODECS[codec].needs_head for codec in manifest.codecs):
        return []
    try:
        read_head(path, vocab_size=manifest.vocab_size, hidden_size=manifest.hidden_size)
        require_checksum(path, manifest.head_sha256)
    except CacheError as error:
        return [error.what]
    return []


def _problems_of_sequences(folder: Path, manifest: CacheManifest) -> list[str]:
    readers: list[SequencesReader] = []
    problems = []
    for number in range(manifest.num_shards):
        try:
            readers.append(open_sequences(folder, manifest, number, checks_checksum=True))
        except CacheError as error:
            problems.append(error.what)
    try:
        if readers:
            SequenceIndex(readers)
    except CacheError as error:
        problems.append(error.what)
    return problems


def _problems_of_tiers(folder: Path, manifest: CacheManifest) -> list[str]:
    problems = []
    for tier in manifest.complete_tiers.values():
        codec = manifest.codec_of(tier.settings)
        for number in range(manifest.num_shards):
            try:
                open_tier_shard(folder, manifest, codec, number, checks_checksum=True)
            except CacheError as error:
                problems.append(error.what)
    return problems
