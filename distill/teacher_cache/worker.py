"""The caching worker: plans, scores one shard after the other, commits each; goes on where it was cut off."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pydantic import Field

import distill
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
from distill.teacher_cache.shard import write_shard
from distill.teacher_cache.vocabulary import tokenizer_fingerprint

log = logging.getLogger(__name__)


class CacheSettings(Settings):
    """How the teacher's scores are computed and stored."""

    codec: CodecName = Field("exact", description="exact: whole distributions; scores: log-probs of the tokens only")
    hidden_dtype: HiddenDtype = Field("bfloat16", description="how codec exact stores hidden states")
    shard_tokens: int = Field(65_536, gt=0, description="completion tokens after which a shard is closed")
    max_batch_tokens: int = Field(8_192, gt=0, description="rows times longest row of one forward pass")
    max_length_tokens: int = Field(512, gt=1, description="longest sequence; what is beyond is cut off")


@dataclass(frozen=True)
class _Job:
    """What one worker needs from shard to shard."""

    folder: Path
    loaded: LoadedModel
    head: OutputHead
    plan: CachePlan
    settings: CacheSettings

    @property
    def is_exact(self) -> bool:
        """Whether hidden states and the head are stored."""
        return CODECS[self.settings.codec].has_distributions

    def size_bytes(self, num_tokens: int) -> int:
        """Bytes that this many completion tokens take on disk."""
        codec, hidden_size = CODECS[self.settings.codec], self.head.weight.shape[1]
        return num_tokens * codec.bytes_per_token(hidden_size=hidden_size, hidden_dtype=self.settings.hidden_dtype)


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
    if not plan.shards:
        raise CacheError("there are no sequences to score", fix="check that the stage before this one kept any")
    job = _Job(output_dir, loaded, head, plan, settings)
    with locked(output_dir / ".lock"):
        manifest = _started(output_dir, _new_manifest(job, data_fingerprint=data_fingerprint))
        manifest = _with_head(job, manifest)
        was_training = loaded.model.training
        loaded.model.eval()
        try:
            with tracked(f"{output_dir.name} cache, tokens", plan.num_tokens) as progress:
                manifest = _with_shards(job, manifest, progress)
        finally:
            loaded.model.train(was_training)
        _commit(output_dir, manifest.model_copy(update={"complete": True}))
    return TeacherCache.open(output_dir)


def _new_manifest(job: _Job, *, data_fingerprint: str) -> CacheManifest:
    """The manifest of a cache of which nothing is done."""
    vocab_size, hidden_size = job.head.weight.shape
    libraries = {name: metadata.version(name) for name in ("torch", "transformers", "safetensors")}
    return CacheManifest(
        codec=job.settings.codec,
        hidden_dtype=job.settings.hidden_dtype if job.is_exact else None,
        hidden_size=hidden_size if job.is_exact else None,
        vocab_size=vocab_size,
        teacher_fingerprint=job.loaded.fingerprint,
        tokenizer_fingerprint=tokenizer_fingerprint(job.loaded.tokenizer),
        template_hash=template_hash(job.loaded.tokenizer),
        max_length_tokens=job.settings.max_length_tokens,
        data_fingerprint=data_fingerprint,
        sequences_fingerprint=job.plan.fingerprint,
        shard_tokens=job.settings.shard_tokens,
        versions={"distill": distill.__version__, **libraries},
        num_shards=len(job.plan.shards),
        num_sequences=job.plan.num_sequences,
        num_tokens=job.plan.num_tokens,
    )


def _started(folder: Path, fresh: CacheManifest) -> CacheManifest:
    """The manifest to go on from: that of an earlier run of the same job, else `fresh`, written."""
    if (folder / MANIFEST_NAME).exists():
        found = read_manifest(folder)
        found.require_same_job(fresh, folder=folder)
        if found.versions != fresh.versions:
            log.warning("%s was begun with %s and goes on with %s", folder, found.versions, fresh.versions)
        for leftover in (*folder.glob(".*.partial"), *(folder / SHARDS_NAME).glob(".*.partial")):
            leftover.unlink()
        return found
    if (folder / SHARDS_NAME).exists() or (folder / HEAD_NAME).exists():
        raise CacheError(
            f"{folder} holds parts of a cache without {MANIFEST_NAME}",
            why="nothing says what they were made from",
            fix=f"delete {folder} and run again",
        )
    _commit(folder, fresh)
    return fresh


def _with_head(job: _Job, manifest: CacheManifest) -> CacheManifest:
    """Stores the head where the codec needs it, unless it stands."""
    path = job.folder / HEAD_NAME
    if not job.is_exact or _stands(path, manifest.head_sha256):
        return manifest
    needed = head_size_bytes(job.head)
    with room_for(path, needed_bytes=needed, left_bytes=needed + job.size_bytes(job.plan.num_tokens)):
        write_head(path, job.head)
        manifest = manifest.model_copy(update={"head_sha256": sha256_of_file(path), "complete": False})
        write_manifest(job.folder, manifest)
    return manifest


def _with_shards(job: _Job, manifest: CacheManifest, progress: Tracker) -> CacheManifest:
    """Goes through the plan: a shard whose checksum stands is kept, any other is scored and committed."""
    wide = float_head(job.head)
    finished = {record.name: record for record in manifest.shards}
    left_tokens, num_kept = job.plan.num_tokens, 0
    for shard in job.plan.shards:
        path = job.folder / SHARDS_NAME / shard.name
        record = finished.get(shard.name)
        if record is not None and _stands(path, record.sha256):
            num_kept += 1
        else:
            with room_for(path, needed_bytes=job.size_bytes(shard.num_tokens), left_bytes=job.size_bytes(left_tokens)):
                finished[shard.name] = _scored_shard(job, shard, manifest, head=wide)
                done = tuple(finished[other.name] for other in job.plan.shards if other.name in finished)
                manifest = manifest.model_copy(update={"shards": done, "complete": False})
                write_manifest(job.folder, manifest)
        left_tokens -= shard.num_tokens
        progress.advance(shard.num_tokens)
    if num_kept:
        log.info("%s: %d of %d shards stood from an earlier run", job.folder, num_kept, len(job.plan.shards))
    return manifest


def _scored_shard(job: _Job, shard: PlannedShard, manifest: CacheManifest, *, head: OutputHead) -> ShardRecord:
    path = job.folder / SHARDS_NAME / shard.name
    scored = score_shard(
        job.loaded,
        shard.sequences,
        head=head,
        max_batch_tokens=job.settings.max_batch_tokens,
        hidden_dtype=HIDDEN_DTYPES[job.settings.hidden_dtype] if job.is_exact else None,
    )
    write_shard(path, scored, layout=manifest.layout)
    return ShardRecord(
        name=shard.name,
        sha256=sha256_of_file(path),
        size_bytes=path.stat().st_size,
        num_sequences=len(shard.sequences),
        num_tokens=shard.num_tokens,
    )


def _commit(folder: Path, manifest: CacheManifest) -> None:
    """Writes a manifest outside of any shard's own commit."""
    size_bytes = len(manifest.model_dump_json(indent=2))
    with room_for(folder / MANIFEST_NAME, needed_bytes=size_bytes, left_bytes=size_bytes):
        write_manifest(folder, manifest)


def _stands(path: Path, sha256: str | None) -> bool:
    """Whether a file written earlier is there and unchanged; a changed one is said and written anew."""
    if sha256 is None or not path.exists():
        return False
    if sha256_of_file(path) == sha256:
        return True
    log.warning("%s is damaged and is written anew", path)
    return False
