"""Commit markers: beside every finished shard a record of what was written, and by whom."""

import logging
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from distill.files import write_text
from distill.settings import Settings
from distill.teacher_cache.cache_file import plain_file_bytes
from distill.teacher_cache.codecs import CodecName, TierSettings
from distill.teacher_cache.manifest import VERSION, ShardRecord, file_name, problems_of, record_path

log = logging.getLogger(__name__)

MAX_RECORD_BYTES = 2**20


class Writing(Settings):
    """Who wrote a shard, when it took how long: beside the record, never in the manifest."""

    host: str
    process_id: int
    elapsed_s: float = Field(ge=0)
    tokens_per_s: float = Field(ge=0)
    versions: dict[str, str]


class CommittedShard(Settings):
    """What a shard's commit marker holds; `settings` are those of its tier."""

    format: Literal["distill-teacher-shard-record"] = "distill-teacher-shard-record"
    version: Literal[2] = VERSION
    settings: TierSettings
    record: ShardRecord
    writing: Writing


def read_shard_record(folder: Path, codec: CodecName, number: int) -> ShardRecord | None:
    """The record of a finished shard; None where it is not finished, or its marker cannot be read (which is logged)."""
    committed = read_committed_shard(folder, codec, number)
    return None if committed is None else committed.record


def read_committed_shard(folder: Path, codec: CodecName, number: int) -> CommittedShard | None:
    """The whole commit marker of a finished shard, with who wrote it; None as in `read_shard_record`."""
    path = record_path(folder, codec, number)
    try:
        content = plain_file_bytes(path, max_bytes=MAX_RECORD_BYTES)
        committed = CommittedShard.model_validate_json(content)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read, its shard counts as unfinished: %s", path, error.strerror)
        return None
    except ValidationError as error:
        log.warning("%s cannot be read, its shard counts as unfinished: %s", path, problems_of(error))
        return None
    if committed.record.name != file_name(number) or committed.settings.codec != codec:
        log.warning("%s is the record of another shard, its own counts as unfinished", path)
        return None
    return committed


def write_shard_record(
    folder: Path, settings: TierSettings, number: int, *, record: ShardRecord, writing: Writing
) -> None:
    """Commits a shard: from now on it counts as finished. Written whole or not at all, after the shard itself."""
    assert record.name == file_name(number)
    committed = CommittedShard(settings=settings, record=record, writing=writing)
    write_text(record_path(folder, settings.codec, number), committed.model_dump_json(indent=2) + "\n")
