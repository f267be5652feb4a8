"""What a cache was made from and which tiers it holds; refuses a cache that was made from something else."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from distill.errors import CacheError
from distill.files import write_text
from distill.settings import Settings
from distill.teacher_cache.cache_file import plain_file_bytes
from distill.teacher_cache.codecs import CODECS, Codec, CodecName, HeadShape, TierSettings, make_codec

FORMAT: Literal["distill-teacher-cache"] = "distill-teacher-cache"
VERSION: Literal[2] = 2
MANIFEST_NAME = "manifest.json"
HEAD_NAME = "head.safetensors"
SEQUENCES_NAME = "sequences"
CLAIMS_NAME = "claims"
LOCK_NAME = ".lock"

# Half a million shards in six tiers; a larger file is no manifest.
MAX_MANIFEST_BYTES = 2**30

# What a file may count: more than any disk holds, and still a number that Python can index with.
Count = Annotated[int, Field(gt=0, le=2**62)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

IDENTITY_FIELDS = (
    "tokenizer_fingerprint",
    "template_hash",
    "teacher_fingerprint",
    "max_length_tokens",
    "data_fingerprint",
    "sequences_fingerprint",
    "shard_tokens",
    "max_batch_tokens",
    "vocab_size",
    "hidden_size",
    "num_shards",
    "num_sequences",
    "num_tokens",
)
"""The fields that make two caches the same one; the first that differs is the one an error names: causes first."""


def file_name(number: int) -> str:
    """The name of shard `number`, the same in every tier and among the sequences."""
    return f"{number:05d}.safetensors"


def sequences_path(folder: Path, number: int) -> Path:
    """Where the ids and completion tokens of shard `number` stand."""
    return folder / SEQUENCES_NAME / file_name(number)


def tier_path(folder: Path, codec: CodecName, number: int) -> Path:
    """Where shard `number` of a tier stands."""
    return folder / codec / file_name(number)


def record_path(folder: Path, codec: CodecName, number: int) -> Path:
    """The commit marker of shard `number` of a tier: written after the shard, removed before it is written anew."""
    return tier_path(folder, codec, number).with_suffix(".json")


class FileRecord(Settings):
    """One file of sequences as it was written."""

    name: str = Field(pattern=r"^[0-9]{5,}\.safetensors$")
    sha256: Sha256
    size_bytes: Count
    num_sequences: Count
    num_tokens: Count


class ShardRecord(FileRecord):
    """One finished shard of a tier; the same whoever wrote it and whenever."""

    sequences_sha256: Sha256


class TierManifest(Settings):
    """One encoding of all sequences; `shards` lists all of them, in order, once the tier is complete."""

    settings: TierSettings
    shards: tuple[ShardRecord, ...] = ()
    complete: bool = False

    @property
    def codec(self) -> CodecName:
        """The tier's name, also that of its folder."""
        return self.settings.codec


class CacheManifest(Settings):
    """The first file to read in a cache; `num_*` count the whole plan."""

    format: Literal["distill-teacher-cache"] = FORMAT
    version: Literal[2] = VERSION
    teacher_fingerprint: str
    tokenizer_fingerprint: str
    template_hash: str
    max_length_tokens: Count
    data_fingerprint: str
    sequences_fingerprint: str
    shard_tokens: Count
    max_batch_tokens: Count
    vocab_size: int = Field(gt=0, le=2**31 - 1)
    hidden_size: int = Field(ge=0, le=2**24)  # 0: unknown, the teacher is behind a server
    versions: dict[str, str]
    num_shards: Count
    num_sequences: Count
    num_tokens: Count
    head_sha256: Sha256 | None = None
    sequences: tuple[FileRecord, ...] = ()
    tiers: tuple[TierManifest, ...] = ()

    @property
    def head_shape(self) -> HeadShape:
        """Rows and columns of the teacher's output head."""
        return HeadShape(vocab_size=self.vocab_size, hidden_size=self.hidden_size)

    @property
    def codecs(self) -> tuple[CodecName, ...]:
        """The tiers that are complete."""
        return tuple(tier.codec for tier in self.tiers if tier.complete)

    @cached_property
    def complete_tiers(self) -> dict[CodecName, TierManifest]:
        """The tiers that can be read, by name."""
        return {tier.codec: tier for tier in self.tiers if tier.complete}

    def tier(self, codec: CodecName) -> TierManifest | None:
        """The tier of that name, complete or not; None where the cache has none."""
        return next((tier for tier in self.tiers if tier.codec == codec), None)

    def codec_of(self, settings: TierSettings) -> Codec:
        """The codec of a tier for this teacher's head."""
        return make_codec(settings, self.head_shape)

    def with_tiers(self, settings: Sequence[TierSettings], *, folder: Path) -> "CacheManifest":
        """The manifest with the tiers it lacks added, empty and incomplete.

        Raises:
            CacheError: a tier stands there with other settings; names the one that differs.
        """
        missing = []
        for asked in settings:
            found = self.tier(asked.codec)
            if found is None:
                missing.append(TierManifest(settings=asked))
            else:
                _refuse_other_settings(found.settings, asked, folder=folder)
        return self.model_copy(update={"tiers": (*self.tiers, *missing)})

    def with_tier(self, tier: TierManifest) -> "CacheManifest":
        """The manifest with the tier of the same name replaced."""
        tiers = tuple(tier if other.codec == tier.codec else other for other in self.tiers)
        return self.model_copy(update={"tiers": tiers})

    def require_consistent(self, *, folder: Path) -> None:
        """Refuses a manifest that contradicts itself; of tiers that are not complete nothing is asked.

        Raises:
            CacheError: shards, totals, tiers or checksums do not fit together.
        """
        problem = self._problem_of_sequences() or next(filter(None, map(self._problem_of_tier, self.tiers)), None)
        codecs = [tier.codec for tier in self.tiers]
        if len(set(codecs)) != len(codecs):
            problem = "a tier is listed twice"
        if problem is not None:
            raise CacheError(
                f"{folder / MANIFEST_NAME} is damaged: {problem}",
                why="a finished cache lists every shard once, in every tier with the same sequences",
                fix=f"delete {folder} and make the cache again: distill cache RECIPE",
            )

    def require_same_job(self, other: "CacheManifest", *, folder: Path) -> None:
        """Refuses to go on in `folder` when `other`, the job at hand, was made from something else.

        Tiers and versions are not compared; head and sequence files are where both sides have them.

        Raises:
            CacheError: names the first field that differs, with both values.
        """
        names = [name for name in ("head_sha256", "sequences") if getattr(self, name) and getattr(other, name)]
        asked = {name: getattr(other, name) for name in (*IDENTITY_FIELDS, *names)}
        fix = f"delete {folder} to make the cache again, or give this job a folder of its own with output=DIR"
        self.require_fields(asked, folder=folder, fix=fix)

    def require_fields(self, asked: Mapping[str, object], *, folder: Path, fix: str) -> None:
        """Refuses a cache that was made from something else.

        Args:
            asked: values by the names of the manifest's fields.
            folder: the cache's, for the message.
            fix: what to do about a difference, for the message.

        Raises:
            CacheError: names the first field that differs, with both values.
        """
        for name, value in asked.items():
            found = getattr(self, name)
            if found != value:
                raise CacheError(
                    f"teacher cache {folder}: {name} is {found!r:.200}, but {value!r:.200} is asked for",
                    why="scores made from one thing and used for another are silently wrong",
                    fix=fix,
                )

    def _problem_of_sequences(self) -> str | None:
        if not self.sequences and not self.codecs:
            return None
        totals = (
            len(self.sequences),
            sum(record.num_sequences for record in self.sequences),
            sum(record.num_tokens for record in self.sequences),
        )
        if totals != (self.num_shards, self.num_sequences, self.num_tokens):
            return "its totals are not the sums over its sequences"
        if any(record.name != file_name(number) for number, record in enumerate(self.sequences)):
            return "its sequences are not numbered from 0 on"
        return None

    def _problem_of_tier(self, tier: TierManifest) -> str | None:
        if not tier.complete:
            return None
        if len(tier.shards) != len(self.sequences):
            return f"tier {tier.codec} has {len(tier.shards)} of {len(self.sequences)} shards"
        for shard, sequences in zip(tier.shards, self.sequences, strict=True):
            found = (shard.name, shard.num_sequences, shard.num_tokens, shard.sequences_sha256)
            if found != (sequences.name, sequences.num_sequences, sequences.num_tokens, sequences.sha256):
                return f"shard {shard.name} of tier {tier.codec} belongs to other sequences"
        if CODECS[tier.codec].needs_head and (self.head_sha256 is None or not self.hidden_size):
            return f"tier {tier.codec} needs the output head, and head_sha256 or hidden_size is missing"
        return None


def read_manifest(folder: Path) -> CacheManifest:
    """Reads a cache's manifest.

    Raises:
        CacheError: there is none, it is not one that this version can read (names the field), or contradicts itself.
    """
    path = folder / MANIFEST_NAME
    try:
        content = plain_file_bytes(path, max_bytes=MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CacheError(
            f"{folder} is not a teacher cache: {MANIFEST_NAME} is missing",
            why="the manifest says what the shards were made from",
            fix="check the path, or make the cache: distill cache RECIPE",
        ) from error
    except OSError as error:
        raise CacheError(
            f"{path} cannot be read: {error.strerror}",
            why="the manifest says what the shards were made from",
            fix=f"look at what {path} is, and whether you may read it",
        ) from error
    try:
        manifest = CacheManifest.model_validate_json(content)
    except ValidationError as error:
        raise CacheError(
            f"{path} is damaged or of another version: {problems_of(error)}",
            why=f"this version reads {FORMAT} version {VERSION}; older caches are made again, not converted",
            fix=f"check the path; if {folder} is a cache, delete it and make it again: distill cache RECIPE",
        ) from error
    manifest.require_consistent(folder=folder)
    return manifest


def write_manifest(folder: Path, manifest: CacheManifest) -> None:
    """Writes the manifest, whole or not at all."""
    write_text(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")


def _refuse_other_settings(found: TierSettings, asked: TierSettings, *, folder: Path) -> None:
    for name in TierSettings.model_fields:
        if getattr(found, name) != getattr(asked, name):
            raise CacheError(
                f"teacher cache {folder}: tier {found.codec} has {name} {getattr(found, name)!r}, but "
                f"{getattr(asked, name)!r} is asked for",
                why="a tier is written with one setting throughout",
                fix=f"ask for {name}={getattr(found, name)!r}, or give this job a folder of its own with output=DIR",
            )


def problems_of(error: ValidationError) -> str:
    """The first five wrong fields of a file, in one line."""
    return "; ".join(
        f"{'.'.join(str(part) for part in details['loc']) or 'file':.200}: {details['msg']:.200}"
        for details in error.errors()[:5]
    )
