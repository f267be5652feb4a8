"""Caches of random hidden states under a random head, in every tier, made without a model."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import TokenizedSequence
from distill.files import sha256_of_file
from distill.objectives.output_head import OutputHead
from distill.teacher_cache import (
    CacheManifest,
    CodecName,
    EncodedRows,
    HeadShape,
    ShardRecord,
    TeacherCache,
    TierManifest,
    TierSettings,
    make_codec,
    read_manifest,
)
from distill.teacher_cache.head_file import write_head
from distill.teacher_cache.manifest import (
    HEAD_NAME,
    MANIFEST_NAME,
    FileRecord,
    file_name,
    record_path,
    sequences_path,
    tier_path,
    write_manifest,
)
from distill.teacher_cache.plan import PlannedSequence
from distill.teacher_cache.shard import write_sequences, write_tier_shard
from distill.teacher_cache.shard_records import Writing, write_shard_record

SHAPE = HeadShape(vocab_size=40, hidden_size=8)
ALL_TIERS = (
    TierSettings(codec="scores"),
    TierSettings(codec="exact", hidden_dtype="float32"),
    TierSettings(codec="exact-int8", group_size=4),
    TierSettings(codec="logits-bf16"),
    TierSettings(codec="top-k", k=6),
    TierSettings(codec="sampled", num_samples=9),
)
WRITING = Writing(host="here", process_id=1, elapsed_s=1.0, tokens_per_s=2.0, versions={"torch": "2"})


@dataclass(frozen=True)
class Synthetic:
    """A cache's folder and what was put in, shard after shard."""

    folder: Path
    sequences: list[PlannedSequence]
    hidden_states: list[Float[Tensor, "tokens hidden"]]
    head: OutputHead

    @property
    def ids(self) -> list[str]:
        """Ids in the order of the shards."""
        return [planned.id for planned in self.sequences]

    def log_probs(self, number: int) -> Float[Tensor, "tokens vocab"]:
        """The true distributions of one sequence."""
        return torch.log_softmax(self.head.logits(self.hidden_states[number]), -1)

    def open(self) -> TeacherCache:
        """The cache, checked."""
        return TeacherCache.open(self.folder)


def planned_sequences(lengths: Sequence[int], *, seed: int = 0) -> list[PlannedSequence]:
    """Sequences whose completions have these lengths."""
    generator = torch.Generator().manual_seed(seed)
    planned = []
    for number, length in enumerate(lengths):
        ids = torch.randint(SHAPE.vocab_size, (length,), generator=generator).tolist()
        sequence = TokenizedSequence((seed, number), tuple(ids))
        planned.append(PlannedSequence(sequence.sequence_id, sequence))
    return planned


def encoded(settings: TierSettings, part: Sequence[PlannedSequence], states: Tensor, head: OutputHead) -> EncodedRows:
    """One tier's rows of some sequences."""
    targets = torch.tensor([token for planned in part for token in planned.sequence.completion_ids])
    return make_codec(settings, SHAPE).encode(
        states,
        targets,
        head=head,
        sequence_ids=[planned.id for planned in part],
        lengths=[planned.num_tokens for planned in part],
    )


def written_tier(folder: Path, settings: TierSettings, number: int, rows: EncodedRows) -> ShardRecord:
    """Writes and commits a shard of a tier over the sequences that stand there."""
    sequences = read_manifest(folder).sequences[number]
    path = tier_path(folder, settings.codec, number)
    codec = make_codec(settings, SHAPE)
    written = write_tier_shard(path, rows, codec=codec, sequences_sha256=sequences.sha256)
    record = ShardRecord(
        name=path.name,
        sha256=written.sha256,
        size_bytes=written.size_bytes,
        num_sequences=sequences.num_sequences,
        num_tokens=sequences.num_tokens,
        sequences_sha256=sequences.sha256,
    )
    write_shard_record(folder, settings, number, record=record, writing=WRITING)
    return record


def synthetic_cache(
    folder: Path,
    *,
    shards: Sequence[Sequence[int]] = ((3, 1, 4), (2, 5)),
    tiers: Sequence[TierSettings] = ALL_TIERS,
    seed: int = 0,
    head_scale: float = 1.0,
) -> Synthetic:
    """Writes a complete cache.

    Args:
        folder: where.
        shards: completion tokens of each sequence of each shard.
        tiers: all complete.
        seed: of tokens, hidden states and head.
        head_scale: what the head is multiplied by.
    """
    generator = torch.Generator().manual_seed(seed)
    head = OutputHead(head_scale * torch.randn(SHAPE.vocab_size, SHAPE.hidden_size, generator=generator))
    planned = planned_sequences([length for lengths in shards for length in lengths], seed=seed)
    states = [torch.randn(p.num_tokens, SHAPE.hidden_size, generator=generator) for p in planned]
    parts, start = [], 0
    for lengths in shards:
        parts.append(range(start, start := start + len(lengths)))
    records = [
        write_sequences(sequences_path(folder, number), [planned[i] for i in part]) for number, part in enumerate(parts)
    ]
    write_head(folder / HEAD_NAME, head)
    manifest = manifest_of(records, head_sha256=sha256_of_file(folder / HEAD_NAME)).with_tiers(tiers, folder=folder)
    write_manifest(folder, manifest)
    for settings in tiers:
        own = []
        for number, part in enumerate(parts):
            rows = encoded(settings, [planned[i] for i in part], torch.cat([states[i] for i in part]), head)
            own.append(written_tier(folder, settings, number, rows))
        manifest = manifest.with_tier(TierManifest(settings=settings, shards=tuple(own), complete=True))
    write_manifest(folder, manifest)
    return Synthetic(folder, planned, states, head)


def manifest_of(sequences: Sequence[FileRecord], *, head_sha256: str | None) -> CacheManifest:
    """A manifest without tiers."""
    return CacheManifest(
        teacher_fingerprint="teacher",
        tokenizer_fingerprint="tokenizer",
        template_hash="template",
        max_length_tokens=16,
        data_fingerprint="data",
        sequences_fingerprint="sequences",
        shard_tokens=8,
        max_batch_tokens=64,
        vocab_size=SHAPE.vocab_size,
        hidden_size=SHAPE.hidden_size,
        versions={"torch": "2"},
        num_shards=len(sequences),
        num_sequences=sum(record.num_sequences for record in sequences),
        num_tokens=sum(record.num_tokens for record in sequences),
        head_sha256=head_sha256,
        sequences=tuple(sequences),
    )


def own_copy(folder: Path, target: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(folder, target))


def forged(folder: Path, path: Path) -> None:
    """Lists a damaged file with its new checksum and size, as only a hostile or faulty writer would."""
    manifest, number = read_manifest(folder), int(path.stem)
    changes = {"sha256": sha256_of_file(path), "size_bytes": path.stat().st_size}
    if path == sequences_path(folder, number):
        sequences = list(manifest.sequences)
        sequences[number] = sequences[number].model_copy(update=changes)
        manifest = manifest.model_copy(update={"sequences": tuple(sequences)})
        for tier in manifest.tiers:
            shards = list(tier.shards)
            shards[number] = shards[number].model_copy(update={"sequences_sha256": changes["sha256"]})
            manifest = manifest.with_tier(tier.model_copy(update={"shards": tuple(shards)}))
    else:
        tier = next(tier for tier in manifest.tiers if path == tier_path(folder, tier.codec, number))
        shards = list(tier.shards)
        shards[number] = shards[number].model_copy(update=changes)
        manifest = manifest.with_tier(tier.model_copy(update={"shards": tuple(shards)}))
    # Without the fsync of a real writer, which the tests that forge thousands have no time for.
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())


def without_commit(folder: Path, codec: CodecName, number: int) -> None:
    """Takes a tier back to where shard `number` was not finished."""
    manifest = read_manifest(folder)
    tier = manifest.tier(codec)
    assert tier is not None
    record_path(folder, codec, number).unlink()
    tier_path(folder, codec, number).unlink()
    write_manifest(folder, manifest.with_tier(TierManifest(settings=tier.settings)))


__all__ = ["ALL_TIERS", "SHAPE", "Synthetic", "file_name", "forged", "own_copy", "synthetic_cache"]
