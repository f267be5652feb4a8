"""The caching worker: plans, scores one shard after the other, commits each; goes on where it was cut off."""

import logging
import shutil
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from pydantic import Field

from distill.data import TokenizedSequence, template_hash
from distill.errors import CacheError
from distill.files import locked, sha256_of_file
from distill.models import LoadedModel, output_head
from distill.objectives.output_head import OutputHead
from distill.progress import Tracker, tracked
from distill.settings import Settings
from distill.teacher_cache.codecs import CODECS, HIDDEN_DTYPES, CodecName, HiddenDtype
from distill.teacher_cache.disk import room_for
from distill.teacher_cache.head_file import head_size_bytes, write_head
from distill.teacher_cache.manifest import (
    HEAD_NAME,
    MANIFEST_NAME,
    SHARDS_NAME,
    CacheManifest,
    ShardRecord,
    read_manifest,
    write_manifest,
)
from distill.teacher_cache.plan import CachePlan, PlannedShard, plan_shards
from distill.teacher_cache.reader import TeacherCache
from distill.teacher_cache.scoring import float_head, score_shard
from distill.teacher_cache.shard import ShardLayout, write_shard
from distill.teacher_cache.vocabulary import tokenizer_fingerprint

log = logging.getLogger(__name__)


class CacheSettings(Settings):
    """How the teacher's scores are computed and stored."""

    codec: CodecName = Field("exact", description="exact: whole distributions; scores: log-probs of the tokens only")
    hidden_dtype: HiddenDtype = Field("bfloat16", description="how codec exact stores hidden states")
    shard_tokens: int = Field(65_536, gt=0, description="completion tokens after which a shard is closed")
    max_batch_tokens: int = Field(8_192, gt=0, description="rows times longest row of one forward pass")
    max_length_tokens: int = Field(512, gt=1, description="longest sequence; what is beyond is cut off")


def score_sequences(
    loaded: LoadedModel,
    sequences: Iterable[TokenizedSequence],
    *,
    settings: CacheSettings,
    output_dir: Path,
    data_fingerprint: str,
) -> TeacherCache:
    """Scores each distinct sequence once and returns the finished cache.

    Run again in the same folder, it keeps every shard whose checksum stands and scores the others; a run
    that is killed loses at most the shard it was at. Resumed or not, the shards hold the same bytes.

    Args:
        loaded: the teacher, or the reference policy.
        sequences: prompts with completions; duplicates count once.
        settings: codec and sizes.
        output_dir: the cache's folder.
        data_fingerprint: of what the sequences were tokenized from.

    Raises:
        CacheError: the folder holds another cache, a sequence cannot be scored, or the disk has no room.
        StageError: another process writes to the folder.
    """
    head = output_head(loaded.model)
    plan = plan_shards(
        sequences,
        shard_tokens=settings.shard_tokens,
        max_length_tokens=settings.max_length_tokens,
        vocab_size=head.weight.shape[0],
    )
    job = _new_manifest(loaded, plan, head=head, settings=settings, data_fingerprint=data_fingerprint)
    with locked(output_dir / ".lock"):
        manifest = _started(output_dir, job)
        manifest = _with_head(output_dir, manifest, head)
        was_training = loaded.model.training
        loaded.model.eval()
        try:
            with tracked(f"{output_dir.name} cache, tokens", plan.num_tokens) as progress:
                manifest = _with_shards(output_dir, manifest, plan, loaded, head, settings, progress)
        finally:
            loaded.model.train(was_training)
        write_manifest(output_dir, manifest.model_copy(update={"complete": True}))
    return TeacherCache.open(output_dir)


def _new_manifest(
    loaded: LoadedModel, plan: CachePlan, *, head: OutputHead, settings: CacheSettings, data_fingerprint: str
) -> CacheManifest:
    """The manifest of a cache of which nothing is done."""
    is_exact = CODECS[settings.codec].has_distributions
    vocab_size, hidden_size = head.weight.shape
    return CacheManifest(
        codec=settings.codec,
        hidden_dtype=settings.hidden_dtype if is_exact else None,
        hidden_size=hidden_size if is_exact else None,
        vocab_size=vocab_size,
        teacher_fingerprint=loaded.fingerprint,
        tokenizer_fingerprint=tokenizer_fingerprint(loaded.tokenizer),
        template_hash=template_hash(loaded.tokenizer),
        max_length_tokens=settings.max_length_tokens,
        data_fingerprint=data_fingerprint,
        sequences_fingerprint=plan.fingerprint,
        shard_tokens=settings.shard_tokens,
        versions={name: metadata.version(name) for name in ("torch", "transformers", "safetensors")},
        num_shards=len(plan.shards),
        num_sequences=plan.num_sequences,
        num_tokens=plan.num_tokens,
    )


def _started(folder: Path, job: CacheManifest) -> CacheManifest:
    """The manifest to go on from: that of an earlier run of the same job, else the new one, written."""
    if (folder / MANIFEST_NAME).exists():
        found = read_manifest(folder)
        found.require_same_job(job, folder=folder)
        if found.versions != job.versions:
            log.warning("%s was begun with %s and goes on with %s", folder, found.versions, job.versions)
        for leftover in (*folder.glob(".*.partial"), *(folder / SHARDS_NAME).glob(".*.partial")):
            leftover.unlink()
        return found
    if (folder / SHARDS_NAME).exists() or (folder / HEAD_NAME).exists():
        raise CacheError(
            f"{folder} holds parts of a cache without {MANIFEST_NAME}",
            why="nothing says what they were made from",
            fix=f"delete {folder} and run again",
        )
    write_manifest(folder, job)
    return job


def _with_head(folder: Path, manifest: CacheManifest, head: OutputHead) -> CacheManifest:
    """Stores the head where the codec needs it, unless it stands."""
    path = folder / HEAD_NAME
    if not CODECS[manifest.codec].has_distributions or _stands(path, manifest.head_sha256):
        return manifest
    size_bytes = head_size_bytes(head)
    with room_for(path, needed_bytes=size_bytes, left_bytes=size_bytes + _bytes_of(manifest, manifest.num_tokens)):
        write_head(path, head)
    manifest = manifest.model_copy(update={"head_sha256": sha256_of_file(path)})
    write_manifest(folder, manifest)
    return manifest


def _with_shards(
    folder: Path,
    manifest: CacheManifest,
    plan: CachePlan,
    loaded: LoadedModel,
    head: OutputHead,
    settings: CacheSettings,
    progress: Tracker,
) -> CacheManifest:
    """Goes through the plan: a shard whose checksum stands is kept, any other is scored and committed."""
    wide = float_head(head)
    finished = {record.name: record for record in manifest.shards}
    layout = ShardLayout(manifest.hidden_size, manifest.hidden_dtype)
    left_tokens = plan.num_tokens
    num_kept = 0
    for shard in plan.shards:
        path = folder / SHARDS_NAME / shard.name
        record = finished.get(shard.name)
        if record is not None and _stands(path, record.sha256):
            num_kept += 1
        else:
            scored = score_shard(
                loaded,
                shard.sequences,
                head=wide,
                max_batch_tokens=settings.max_batch_tokens,
                keeps_hidden_states=CODECS[manifest.codec].has_distributions,
                hidden_dtype=HIDDEN_DTYPES[settings.hidden_dtype],
            )
            with room_for(
                path,
                needed_bytes=_bytes_of(manifest, shard.num_tokens),
                left_bytes=_bytes_of(manifest, left_tokens),
            ):
                write_shard(path, scored, layout=layout)
            finished[shard.name] = _record(path, shard)
            manifest = manifest.model_copy(update={"shards": tuple(finished[name] for name in sorted(finished))})
            write_manifest(folder, manifest)
        left_tokens -= shard.num_tokens
        progress.advance(shard.num_tokens)
    if num_kept:
        log.info("%s: %d of %d shards stood from an earlier run", folder, num_kept, len(plan.shards))
    return manifest
