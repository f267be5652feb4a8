"""Who works on which shard: claims are files that one worker can create, keeps fresh, and loses when it dies.

The file system is the only coordinator. A claim is made with O_EXCL, so that one worker gets it; a thread of its owner
touches it; one that was not touched for its whole lease, or whose process is known to be dead, is renamed away by
whoever wants it, and a rename succeeds for one worker only. Ages are measured against the file system's own clock, so
clocks of hosts may differ. Both operations are atomic on local disks and on NFS (version 3 and later).

A worker that was suspended for longer than its lease may find its shard in other hands. That costs work, never
correctness: shards are whole files with the same bytes whoever writes them.
"""

import contextlib
import errno
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from distill.teacher_cache.claim_owner import ClaimOwner, owner_of

log = logging.getLogger(__name__)

HEARTBEATS_PER_LEASE = 4
# A claim without an owner is a microsecond old, or its worker was killed before it could sign.
UNSIGNED_LEASE_S = 5.0
EXPIRED_SUFFIX = ".expired"


@dataclass(frozen=True)
class Claim:
    """A claim that this worker holds; `file` stays open, so that a heartbeat never touches another's claim."""

    name: str
    path: Path
    file: int

    @property
    def is_lost(self) -> bool:
        """Whether another worker took over, because no heartbeat came for a whole lease."""
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self.file))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            return True


class Claims:
    """The claims of one worker in one folder; use it in a `with` block, which releases what is still held."""

    def __init__(self, folder: Path, *, worker_id: str, lease_s: float) -> None:
        assert lease_s > 0
        self.folder, self.worker_id, self.lease_s = folder, worker_id, lease_s
        self._held: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, name: str) -> Claim | None:
        """The claim to `name`, or None where another worker holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        claim = self._created(name, path)
        if claim is None and self._cleared(path):
            claim = self._created(name, path)
        if claim is not None:
            with self._lock:
                self._held[name] = claim
            self._start_heart()
        return claim

    def release(self, claim: Claim) -> None:
        """Gives a claim back; one that was lost meanwhile is left to its new owner."""
        with self._lock:
            self._held.pop(claim.name, None)
            if not claim.is_lost:
                claim.path.unlink(missing_ok=True)
            os.close(claim.file)

    def close(self) -> None:
        """Stops the heartbeat and releases what is held."""
        self._stopped.set()
        if self._heart is not None:
            self._heart.join()
        for claim in list(self._held.values()):
            self.release(claim)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _created(self, name: str, path: Path) -> Claim | None:
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        try:
            os.write(file, ClaimOwner.here(self.worker_id, lease_s=self.lease_s).model_dump_json().encode())
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        return Claim(name, path, file)

    def _cleared(self, path: Path) -> bool:
        """Whether a claim that is over was put out of the way, by this worker and no other."""
        try:
            with path.open("rb") as file:  # opened, for then a file server is asked for the newest times
                found, owner = os.fstat(file.fileno()), owner_of(file.read())
        except FileNotFoundError:
            return True
        has_died = owner is not None and owner.has_died
        lease_s = min(self.lease_s, UNSIGNED_LEASE_S) if owner is None else owner.lease_s
        if not has_died and self._age_s(found) < lease_s:
            return False
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{EXPIRED_SUFFIX}")
        try:
            path.rename(aside)
            taken = aside.stat()
        except FileNotFoundError:
            return False
        if not os.path.samestat(taken, found) or taken.st_mtime_ns != found.st_mtime_ns:
            # Between the look and the rename its owner came back, or another worker took over: the claim is alive.
            # Where it cannot be put back it is lost to its owner, which costs work only.
            with contextlib.suppress(OSError):
                os.link(aside, path)
            aside.unlink(missing_ok=True)
            return False
        name = "its worker" if owner is None else owner.worker
        reason = "has died" if has_died else f"has not been heard of for {lease_s:.0f} s"
        log.warning("%s: %s %s; taking over", path.stem, name, reason)
        aside.unlink(missing_ok=True)
        return True

    def _age_s(self, found: os.stat_result) -> float:
        """Seconds since a file was touched, by the clock of the file system it lies on."""
        with self._clock() as now_ns:
            return (now_ns - found.st_mtime_ns) / 1e9

    @contextlib.contextmanager
    def _clock(self) -> Iterator[int]:
        probe = self.folder / f".clock.{uuid.uuid4().hex[:8]}"
        try:
            probe.touch()
            yield probe.stat().st_mtime_ns
        finally:
            probe.unlink(missing_ok=True)

    def _start_heart(self) -> None:
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="claims", daemon=True)
            self._heart.start()

    def _beat(self) -> None:
        while not self._stopped.wait(self.lease_s / HEARTBEATS_PER_LEASE):
            with self._lock:
                for claim in self._held.values():
                    try:
                        os.utime(claim.file)
                    except OSError as error:  # a file server that is away for a moment; the lease covers four beats
                        log.warning("the claim to %s could not be renewed: %s", claim.name, error)
