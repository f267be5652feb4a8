"""What lies in a cache's folder and serves nothing any more: found, and removed where asked."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from distill.files import locked
from distill.teacher_cache.claim_owner import owner_at
from distill.teacher_cache.codecs import CodecName
from distill.teacher_cache.manifest import (
    CLAIMS_NAME,
    HEAD_NAME,
    LOCK_NAME,
    SEQUENCES_NAME,
    CacheManifest,
    TierManifest,
    read_manifest,
)

# A file this young may still be written, whatever its worker's claim says.
GRACE_S = 600.0
_DEFAULT_LEASE_S = 3600.0

_PARTIAL = re.compile(r"^\..+\.[0-9a-f]{8}\.partial$")
_PROBE = re.compile(r"^\.clock\.[0-9a-f]{8}$")
_RAY_MARKER = re.compile(r"^\.ray-[0-9a-f]{8}$")
_TAKEN_OVER = re.compile(r"^\..+\.expired$")
_SHARD = re.compile(r"^\d{5,}\.(safetensors|json)$")


@dataclass(frozen=True)
class Garbage:
    """One file that nothing refers to."""

    path: Path
    size_bytes: int
    reason: str


def collect_garbage(folder: Path, *, dry_run: bool, grace_s: float = GRACE_S) -> list[Garbage]:
    """Finds what dead workers left (partial files, claims, markers) and what the manifest does not list; removes it.

    What the manifest lists is never touched, nor are files with names that no part of a cache has. While a worker
    holds a claim that is not expired, and for `grace_s` after a file was last written, unfinished work is left alone.

    Args:
        folder: the cache.
        dry_run: say what would go, remove nothing.
        grace_s: seconds.

    Returns:
        Every file that went, or would go.

    Raises:
        CacheError: the folder is no cache.
        StageError: a worker is beginning or finishing the cache right now.
    """
    read_manifest(folder)
    with locked(folder / LOCK_NAME):
        manifest = read_manifest(folder)
        now = _clock(folder)
        claims = list(_claims(folder, now=now))
        found = [Garbage(path, path.lstat().st_size, "claim that is over") for path, is_alive in claims if not is_alive]
        if not any(is_alive for _, is_alive in claims):
            unlisted = _unlisted(folder, manifest)
            found += [garbage for garbage in unlisted if now - garbage.path.lstat().st_mtime >= grace_s]
        if not dry_run:
            for garbage in found:
                garbage.path.unlink(missing_ok=True)
            _remove_empty_tiers(folder, manifest)
    return sorted(found, key=lambda garbage: garbage.path)


def is_being_written(folder: Path) -> bool:
    """Whether a worker that is not known to be dead holds a claim in the cache's folder whose lease still runs."""
    # The clock is a file that is touched, so it is asked only where there is something to date.
    return bool(_files(folder / CLAIMS_NAME)) and any(alive for _, alive in _claims(folder, now=_clock(folder)))


def _claims(folder: Path, *, now: float) -> Iterator[tuple[Path, bool]]:
    """Every claim, and whether its lease still runs for a process that is not known to be dead."""
    for path in _files(folder / CLAIMS_NAME):
        if _PROBE.match(path.name) or _TAKEN_OVER.match(path.name):
            yield path, False
        elif path.suffix == ".json":
            yield path, _is_alive(path, now=now)


def _is_alive(claim: Path, *, now: float) -> bool:
    """A claim that says nothing gets an hour."""
    owner = owner_at(claim)
    lease_s = _DEFAULT_LEASE_S if owner is None else owner.lease_s
    return now - claim.lstat().st_mtime < lease_s and not (owner is not None and owner.has_died)


def _clock(folder: Path) -> float:
    """The time by the clock that stamps files there, which may be another host's."""
    probe = folder / f".clock.{uuid.uuid4().hex[:8]}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _unlisted(folder: Path, manifest: CacheManifest) -> Iterator[Garbage]:
    listed_sequences = {record.name for record in manifest.sequences}
    for path in _files(folder):
        if _PARTIAL.match(path.name):
            yield Garbage(path, path.lstat().st_size, "partial file")
        elif _PROBE.match(path.name):
            yield Garbage(path, path.lstat().st_size, "probe of the clock")
        elif _RAY_MARKER.match(path.name):
            yield Garbage(path, path.lstat().st_size, "marker of a Ray job")
        elif path.name == HEAD_NAME and manifest.head_sha256 is None:
            yield Garbage(path, path.lstat().st_size, "head that the manifest does not list")
    for path in _files(folder / SEQUENCES_NAME):
        if _PARTIAL.match(path.name):
            yield Garbage(path, path.lstat().st_size, "partial file")
        elif _SHARD.match(path.name) and listed_sequences and path.name not in listed_sequences:
            yield Garbage(path, path.lstat().st_size, "sequences that the manifest does not list")
    for codec in get_args(CodecName):
        kept = _kept(folder, manifest, manifest.tier(codec))
        for path in _files(folder / codec):
            if _PARTIAL.match(path.name):
                yield Garbage(path, path.lstat().st_size, "partial file")
            elif _SHARD.match(path.name) and path.name not in kept:
                reason = "tier" if manifest.tier(codec) is None else "shard"
                yield Garbage(path, path.lstat().st_size, f"{reason} that the manifest does not list")


def _kept(folder: Path, manifest: CacheManifest, tier: TierManifest | None) -> set[str]:
    """Names in a tier's folder that belong to it: all listed shards, or of a tier under way all committed ones."""
    if tier is None:
        return set()
    names = [Path(record.name) for record in manifest.sequences]
    if not tier.complete:
        names = [name for name in names if (folder / tier.codec / name).with_suffix(".json").exists()]
    return {str(name.with_suffix(suffix)) for name in names for suffix in (".safetensors", ".json")}


def _files(folder: Path) -> list[Path]:
    """Plain files and links directly inside; none where there is no such folder, or where it is a link."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_symlink() or path.is_file())


def _remove_empty_tiers(folder: Path, manifest: CacheManifest) -> None:
    for codec in get_args(CodecName):
        path = folder / codec
        if manifest.tier(codec) is None and path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
