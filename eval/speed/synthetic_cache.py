"""Finished caches of any size without a teacher: some real rows, repeated."""

from collections.abc import Sequence
from pathlib import Path

import torch

from distill.data import TokenizedSequence
from distill.files import sha256_of_file
from distill.objectives.output_head import OutputHead
from distill.teacher_cache import TeacherCache
from distill.teacher_cache.codecs import EncodedRows, HeadShape, TierSettings, joined, make_codec
from distill.teacher_cache.head_file import write_head
from distill.teacher_cache.manifest import (
    HEAD_NAME,
    CacheManifest,
    ShardRecord,
    TierManifest,
    sequences_path,
    tier_path,
    write_manifest,
)
from distill.teacher_cache.plan import plan_shards
from distill.teacher_cache.shard import write_sequences, write_tier_shard

BASE_TOKENS = 512
SHARD_TOKENS = 65_536


def synthetic_cache(
    folder: Path, sequences: Sequence[TokenizedSequence], *, settings: TierSettings, head: OutputHead
) -> TeacherCache:
    """A cache of one tier over `sequences`, whose rows repeat those of `BASE_TOKENS` random hidden states."""
    vocab_size, hidden_size = head.weight.shape
    codec = make_codec(settings, HeadShape(vocab_size, hidden_size))
    base = codec.encode(
        torch.randn(BASE_TOKENS, hidden_size, generator=torch.Generator().manual_seed(0)),
        torch.zeros(BASE_TOKENS, dtype=torch.int64),
        head=head,
        sequence_ids=["base"],
        lengths=[BASE_TOKENS],
    )
    plan = plan_shards(sequences, shard_tokens=SHARD_TOKENS, max_length_tokens=2**31, vocab_size=vocab_size)
    files, records = [], []
    for shard in plan.shards:
        path = tier_path(folder, settings.codec, shard.number)
        files.append(write_sequences(sequences_path(folder, shard.number), shard.sequences))
        rows = _repeated(base, shard.num_tokens)
        written = write_tier_shard(path, rows, codec=codec, sequences_sha256=files[-1].sha256)
        sizes = {"num_sequences": len(shard.sequences), "num_tokens": shard.num_tokens}
        records.append(
            ShardRecord.model_validate(
                {
                    "name": shard.name,
                    "sha256": written.sha256,
                    "size_bytes": written.size_bytes,
                    "sequences_sha256": files[-1].sha256,
                    **sizes,
                }
            )
        )
    head_sha256 = None
    if codec.needs_head:
        write_head(folder / HEAD_NAME, head)
        head_sha256 = sha256_of_file(folder / HEAD_NAME)
    write_manifest(
        folder,
        CacheManifest(
            teacher_fingerprint="random rows",
            tokenizer_fingerprint="none",
            template_hash="none",
            max_length_tokens=2**31,
            data_fingerprint="none",
            sequences_fingerprint=plan.fingerprint,
            shard_tokens=SHARD_TOKENS,
            max_batch_tokens=1,
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            versions={},
            num_shards=len(plan.shards),
            num_sequences=plan.num_sequences,
            num_tokens=plan.num_tokens,
            head_sha256=head_sha256,
            sequences=tuple(files),
            tiers=(TierManifest(settings=settings, shards=tuple(records), complete=True),),
        ),
    )
    return TeacherCache.open(folder)


def _repeated(base: EncodedRows, num_tokens: int) -> EncodedRows:
    """`num_tokens` rows, the base's over and over."""
    whole, rest = divmod(num_tokens, base.num_tokens)
    first, _ = base.split([rest, base.num_tokens - rest])
    return joined([*[base] * whole, first])
