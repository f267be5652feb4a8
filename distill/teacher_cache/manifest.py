"""What a cache was made from; refuses a cache that was made from something else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from distill.errors import CacheError
from distill.files import write_text
from distill.settings import Settings
from distill.teacher_cache.codecs import CODECS, CodecName, HiddenDtype
from distill.teacher_cache.shard import ShardLayout

FORMAT: Literal["distill-teacher-cache"] = "distill-teacher-cache"
VERSION: Literal[1] = 1
MANIFEST_NAME = "manifest.json"
HEAD_NAME = "head.safetensors"
SHARDS_NAME = "shards"

FINGERPRINT_FIELDS = (
    "codec",
    "hidden_dtype",
    "teacher_fingerprint",
    "tokenizer_fingerprint",
    "template_hash",
    "max_length_tokens",
    "data_fingerprint",
    "sequences_fingerprint",
    "shard_tokens",
)
"""The fields that make two caches the same one; the first that differs is the one an error names."""


class ShardRecord(Settings):
    """One finished shard."""

    name: str = Field(pattern=r"^\d{5,}\.safetensors$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)
    num_sequences: int = Field(gt=0)
    num_tokens: int = Field(gt=0)


class CacheManifest(Settings):
    """The first file to read in a cache; `num_*` count the whole plan, `shards` what is finished."""

    format: Literal["distill-teacher-cache"] = FORMAT
    version: Literal[1] = VERSION
    codec: CodecName
    hidden_dtype: HiddenDtype | None
    hidden_size: int | None = Field(gt=0)
    vocab_size: int = Field(gt=0)
    teacher_fingerprint: str
    tokenizer_fingerprint: str
    template_hash: str
    max_length_tokens: int = Field(gt=0)
    data_fingerprint: str
    sequences_fingerprint: str
    shard_tokens: int = Field(gt=0)
    versions: dict[str, str]
    num_shards: int = Field(ge=0)
    num_sequences: int = Field(ge=0)
    num_tokens: int = Field(ge=0)
    head_sha256: str | None = None
    shards: tuple[ShardRecord, ...] = ()
    complete: bool = False

    @property
    def layout(self) -> ShardLayout:
        """What every shard must look like."""
        return ShardLayout(self.hidden_size, self.hidden_dtype)

    def require_consistent(self, *, folder: Path) -> None:
        """Refuses a manifest that contradicts itself.

        Raises:
            CacheError: shards, totals, codec or checksums do not fit together.
        """
        names = [record.name for record in self.shards]
        is_exact = CODECS[self.codec].has_distributions
        totals = (
            len(self.shards),
            sum(record.num_sequences for record in self.shards),
            sum(record.num_tokens for record in self.shards),
        )
        problem = None
        if len(set(names)) != len(names):
            problem = "a shard is listed twice"
        elif totals != (self.num_shards, self.num_sequences, self.num_tokens):
            problem = "its totals are not the sums over its shards"
        elif any((value is not None) != is_exact for value in (self.hidden_dtype, self.hidden_size, self.head_sha256)):
            problem = f"hidden_dtype, hidden_size and head_sha256 do not fit codec {self.codec}"
        if problem is not None:
            raise CacheError(
                f"{folder / MANIFEST_NAME} is damaged: {problem}",
                why="a finished cache lists all its shards once",
                fix=f"delete {folder} and make the cache again: distill cache RECIPE",
            )

    def require(
        self,
        *,
        folder: Path,
        teacher_fingerprint: str | None = None,
        tokenizer_fingerprint: str | None = None,
        template_hash: str | None = None,
        max_length_tokens: int | None = None,
        data_fingerprint: str | None = None,
        codec: CodecName | None = None,
    ) -> None:
        """Refuses a cache that was made for something else; a field left at None is not compared.

        Raises:
            CacheError: names the first field that differs, with both values.
        """
        expected: dict[str, object] = {
            "codec": codec,
            "teacher_fingerprint": teacher_fingerprint,
            "tokenizer_fingerprint": tokenizer_fingerprint,
            "template_hash": template_hash,
            "max_length_tokens": max_length_tokens,
            "data_fingerprint": data_fingerprint,
        }
        asked = {name: value for name, value in expected.items() if value is not None}
        self._refuse_differences(asked, folder=folder, fix="make the cache again: distill cache RECIPE")

    def require_same_job(self, other: "CacheManifest", *, folder: Path) -> None:
        """Refuses to go on in `folder` when `other`, the job at hand, would write a different cache.

        Raises:
            CacheError: names the first field that differs, with both values.
        """
        asked = {name: getattr(other, name) for name in FINGERPRINT_FIELDS}
        fix = f"delete {folder} to make the cache again, or give this job a folder of its own with output=DIR"
        self._refuse_differences(asked, folder=folder, fix=fix)

    def _refuse_differences(self, asked: Mapping[str, object], *, folder: Path, fix: str) -> None:
        for name, value in asked.items():
            found = getattr(self, name)
            if found != value:
                raise CacheError(
                    f"teacher cache {folder}: {name} is {found!r}, but {value!r} is asked for",
                    why="scores made from one thing and used for another are silently wrong",
                    fix=fix,
                )


def read_manifest(folder: Path) -> CacheManifest:
    """Reads a cache's manifest.

    Raises:
        CacheError: there is none, or it is not one that this version can read; names the field.
    """
    path = folder / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CacheError(
            f"{folder} is not a teacher cache: {MANIFEST_NAME} is missing",
            why="the manifest says what the shards were made from",
            fix="check the path, or make the cache: distill cache RECIPE",
        ) from error
    except UnicodeDecodeError as error:
        raise CacheError(f"{path} is damaged: not UTF-8", fix=f"delete {folder} and make the cache again") from error
    try:
        return CacheManifest.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in details['loc']) or 'file'}: {details['msg']}"
            for details in error.errors()
        )
        raise CacheError(
            f"{path} is damaged or of another version: {problems}",
            why=f"this version reads {FORMAT} version {VERSION}",
            fix=f"delete {folder} and make the cache again: distill cache RECIPE",
        ) from error


def write_manifest(folder: Path, manifest: CacheManifest) -> None:
    """Writes the manifest, whole or not at all."""
    write_text(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
