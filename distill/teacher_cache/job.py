"""One caching job: what is to be written where. Beginning and finishing it, which every worker may do."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path

import distill
from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.files import locked, sha256_of_file
from distill.models import LoadedModel
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import CODECS, Codec, make_codec
from distill.teacher_cache.disk import room_for
from distill.teacher_cache.head_file import head_size_bytes, write_head
from distill.teacher_cache.manifest import (
    CLAIMS_NAME,
    HEAD_NAME,
    MANIFEST_NAME,
    SEQUENCES_NAME,
    CacheManifest,
    FileRecord,
    ShardRecord,
    TierManifest,
    read_manifest,
    record_path,
    sequences_path,
    tier_path,
    write_manifest,
)
from distill.teacher_cache.plan import CachePlan, PlannedShard, plan_shards
from distill.teacher_cache.scoring import Scorer, TeacherIdentity, scorer_of
from distill.teacher_cache.settings import CacheSettings
from distill.teacher_cache.shard import write_sequences
from distill.teacher_cache.shard_records import read_committed_shard

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"
FOR_EVER = -1.0


@dataclass(frozen=True)
class Job:
    """What all workers on one cache agree on; each makes its own from the same sequences."""

    folder: Path
    plan: CachePlan
    settings: CacheSettings
    manifest: CacheManifest
    head: OutputHead | None

    @cached_property
    def codecs(self) -> tuple[Codec, ...]:
        """The tiers that this job writes."""
        return tuple(make_codec(tier, self.manifest.head_shape) for tier in self.settings.tiers)

    def missing(self, shard: PlannedShard) -> tuple[Codec, ...]:
        """The tiers whose shard of this number nobody has finished."""
        return tuple(codec for codec in self.codecs if self.record(codec, shard) is None)

    def record(self, codec: Codec, shard: PlannedShard) -> ShardRecord | None:
        """What was written when the shard was finished; None where it is not, or was written from something else."""
        committed = read_committed_shard(self.folder, codec.settings.codec, shard.number)
        if committed is None or committed.settings != codec.settings:
            return None
        is_ours = committed.record.sequences_sha256 == self.manifest.sequences[shard.number].sha256
        return committed.record if is_ours else None

    def size_bytes(self, num_tokens: int) -> int:
        """Bytes that this many completion tokens take in all tiers of the job."""
        return round(sum(codec.bytes_per_token() for codec in self.codecs) * num_tokens)

    @property
    def needs_head(self) -> bool:
        """Whether a tier is decoded with the head."""
        return any(codec.needs_head for codec in self.codecs)


def begin_cache(
    teacher: LoadedModel | Scorer,
    sequences: Iterable[TokenizedSequence],
    *,
    settings: CacheSettings,
    output_dir: Path,
    data_fingerprint: str,
) -> Job:
    """Plans the job and writes what all workers share: manifest, sequences, head; or joins what stands there.

    A folder that holds a cache of the same teacher and sequences is joined; tiers it lacks are added.

    Raises:
        CacheError: the folder holds another cache, a sequence cannot be scored, or the disk has no room.
    """
    scorer = scorer_of(teacher)
    identity = scorer.identity
    plan = plan_shards(
        sequences,
        shard_tokens=settings.shard_tokens,
        max_length_tokens=settings.max_length_tokens,
        vocab_size=identity.shape.vocab_size,
    )
    if not plan.shards:
        raise CacheError("there are no sequences to score", fix="check that the stage before this one kept any")
    fresh = _new_manifest(identity, plan, settings, data_fingerprint=data_fingerprint)
    job = Job(output_dir, plan, settings, fresh, scorer.head)
    if job.needs_head and job.head is None:
        raise CacheError(
            f"cache.codec asks for {', '.join(codec.name for codec in job.codecs if codec.needs_head)}",
            why="these tiers are decoded with the teacher's output head, and this teacher shows none",
            fix="cache.codec=[scores,top-k], or a teacher whose weights can be loaded",
        )
    with locked(output_dir / LOCK_NAME, wait_s=FOR_EVER):
        manifest = _joined_manifest(output_dir, fresh).with_tiers(settings.tiers, folder=output_dir)
        manifest = _with_shared_files(job, manifest)
        return Job(output_dir, plan, settings, manifest, scorer.head)


def finish(job: Job) -> bool:
    """Lists the finished shards in the manifest, once every one of them stands up to its checksum.

    The worker that comes last does it for all. A shard that was damaged loses its record, to be scored again.

    Returns:
        Whether the job's tiers are complete; else there is work left.
    """
    with locked(job.folder / LOCK_NAME, wait_s=FOR_EVER):
        manifest = read_manifest(job.folder).with_tiers(job.settings.tiers, folder=job.folder)
        begun = {tier.codec for tier in job.manifest.tiers if tier.complete}
        names = {codec.settings.codec for codec in job.codecs}
        if names <= set(manifest.codecs) and not names & begun:
            return True  # another worker has finished it since this one began
        mended = _with_shared_files(job, manifest, checks_checksums=True)
        for codec in job.codecs:
            mended = mended.with_tier(_finished_tier(job, codec))
        if mended != manifest:
            _commit(job.folder, mended)
        is_complete = names <= set(mended.codecs)
        if is_complete:
            _clear_away(job)
        return is_complete


def claim_name(codec: Codec, shard: PlannedShard) -> str:
    """Under what name a shard of a tier is claimed."""
    return f"{codec.settings.codec}-{shard.number:05d}"


@cache
def library_versions() -> dict[str, str]:
    """Versions of what shapes the numbers and the files."""
    libraries = {name: metadata.version(name) for name in ("torch", "transformers", "safetensors")}
    return {"distill": distill.__version__, **libraries}


def _finished_tier(job: Job, codec: Codec) -> TierManifest:
    """The tier with all its shards, or without any where one is missing or damaged."""
    records: list[ShardRecord] = []
    for shard in job.plan.shards:
        record = job.record(codec, shard)
        path = tier_path(job.folder, codec.settings.codec, shard.number)
        if record is not None and not _stands(path, record.sha256):
            record_path(job.folder, codec.settings.codec, shard.number).unlink(missing_ok=True)
            record = None
        if record is not None:
            records.append(record)
    if len(records) < len(job.plan.shards):
        return TierManifest(settings=codec.settings)
    return TierManifest(settings=codec.settings, shards=tuple(records), complete=True)


def _clear_away(job: Job) -> None:
    """Removes what workers left that died after their last commit: no shard is at work any more."""
    for codec in job.codecs:
        for shard in job.plan.shards:
            (job.folder / CLAIMS_NAME / f"{claim_name(codec, shard)}.json").unlink(missing_ok=True)
        for leftover in (job.folder / codec.settings.codec).glob(".*.partial"):
            leftover.unlink(missing_ok=True)


def _new_manifest(
    identity: TeacherIdentity, plan: CachePlan, settings: CacheSettings, *, data_fingerprint: str
) -> CacheManifest:
    """The manifest of a cache of which nothing is done."""
    return CacheManifest(
        teacher_fingerprint=identity.fingerprint,
        tokenizer_fingerprint=identity.tokenizer_fingerprint,
        template_hash=identity.template_hash,
        max_length_tokens=settings.max_length_tokens,
        data_fingerprint=data_fingerprint,
        sequences_fingerprint=plan.fingerprint,
        shard_tokens=settings.shard_tokens,
        max_batch_tokens=settings.max_batch_tokens,
        vocab_size=identity.shape.vocab_size,
        hidden_size=identity.shape.hidden_size,
        versions=library_versions(),
        num_shards=len(plan.shards),
        num_sequences=plan.num_sequences,
        num_tokens=plan.num_tokens,
    )


def _joined_manifest(folder: Path, fresh: CacheManifest) -> CacheManifest:
    """The manifest of an earlier begin of the same job, else `fresh`."""
    if not (folder / MANIFEST_NAME).exists():
        if any((folder / name).exists() for name in (SEQUENCES_NAME, HEAD_NAME, *CODECS)):
            raise CacheError(
                f"{folder} holds parts of a cache without {MANIFEST_NAME}",
                why="nothing says what they were made from",
                fix=f"delete {folder} and run again",
            )
        _commit(folder, fresh)
        return fresh
    found = read_manifest(folder)
    if found.max_batch_tokens != fresh.max_batch_tokens:
        log.warning(
            "%s was begun with cache.max_batch_tokens=%d and goes on with %d: equal up to rounding, not in every byte",
            folder,
            found.max_batch_tokens,
            fresh.max_batch_tokens,
        )
        fresh = fresh.model_copy(update={"max_batch_tokens": found.max_batch_tokens})
    found.require_same_job(fresh, folder=folder)
    if found.versions != fresh.versions:
        log.warning("%s was begun with %s and goes on with %s", folder, found.versions, fresh.versions)
    return found


def _with_shared_files(job: Job, manifest: CacheManifest, *, checks_checksums: bool = False) -> CacheManifest:
    """Writes the sequences and the head unless they stand, and the manifest that lists them; under the lock."""
    for leftover in (*job.folder.glob(".*.partial"), *(job.folder / SEQUENCES_NAME).glob(".*.partial")):
        leftover.unlink()
    sequences = _with_sequences(job, manifest.sequences, checks_checksums=checks_checksums)
    head_sha256 = manifest.head_sha256
    path = job.folder / HEAD_NAME
    if job.needs_head and not (path.exists() and (not checks_checksums or _stands(path, head_sha256)) and head_sha256):
        assert job.head is not None
        needed = head_size_bytes(job.head)
        with room_for(path, needed_bytes=needed, left_bytes=needed + job.size_bytes(job.plan.num_tokens)):
            write_head(path, job.head)
        head_sha256 = sha256_of_file(path)
    whole = manifest.model_copy(update={"sequences": sequences, "head_sha256": head_sha256})
    if not checks_checksums and whole != read_manifest(job.folder):
        _commit(job.folder, whole)
    return whole


def _with_sequences(job: Job, records: tuple[FileRecord, ...], *, checks_checksums: bool) -> tuple[FileRecord, ...]:
    """The records of all sequences files; those that do not stand are written."""
    whole: list[FileRecord] = []
    for shard in job.plan.shards:
        path = sequences_path(job.folder, shard.number)
        record = records[shard.number] if records else None
        if record is None or not _is_whole(path, record, checks_checksum=checks_checksums):
            needed = 4 * shard.num_tokens + 40 * len(shard.sequences)
            with room_for(path, needed_bytes=needed, left_bytes=needed + job.size_bytes(job.plan.num_tokens)):
                record = write_sequences(path, shard.sequences)
        whole.append(record)
    return tuple(whole)


def _is_whole(path: Path, record: FileRecord, *, checks_checksum: bool) -> bool:
    if checks_checksum:
        return _stands(path, record.sha256)
    return path.exists() and path.stat().st_size == record.size_bytes


def _commit(folder: Path, manifest: CacheManifest) -> None:
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
