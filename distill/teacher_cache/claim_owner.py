"""Who holds a claim: written into it, so that processes of the same machine see at once when its holder has died."""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from distill.settings import Settings
from distill.teacher_cache.cache_file import plain_file_bytes

MAX_CLAIM_BYTES = 2**16
LONGEST_LEASE_S = 86_400.0


class ClaimOwner(Settings):
    """A worker, and the process it is; `place` and `started` are None where the system does not tell them."""

    worker: str
    lease_s: float = Field(gt=0, le=LONGEST_LEASE_S)
    place: str | None = None
    process_id: int | None = Field(None, gt=0, lt=2**31)
    started: int | None = None

    @classmethod
    def here(cls, worker: str, *, lease_s: float) -> Self:
        """This process."""
        return cls(
            worker=worker, lease_s=lease_s, place=_place(), process_id=os.getpid(), started=_started(os.getpid())
        )

    @property
    def has_died(self) -> bool:
        """Whether its process is known to be gone; False for one that runs elsewhere, of which nothing is known."""
        if self.process_id is None or self.started is None or self.place is None or self.place != _place():
            return False
        try:
            os.kill(self.process_id, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # another user's, and so alive
        started = _started(self.process_id)
        return started is not None and started != self.started


def owner_of(claim: bytes) -> ClaimOwner | None:
    """What a claim says; None where it says nothing, as one whose maker died before it could write."""
    try:
        return ClaimOwner.model_validate_json(claim)
    except ValidationError:
        return None


def owner_at(path: Path) -> ClaimOwner | None:
    """What the claim at `path` says; None where it says nothing, is gone, or is no small plain file."""
    try:
        return owner_of(plain_file_bytes(path, max_bytes=MAX_CLAIM_BYTES))
    except OSError:
        return None


@cache
def _place() -> str | None:
    """Where process ids mean the same processes: one host since its last start, and one container of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(process_id: int) -> int | None:
    """When a process began, in ticks since the host's start, so that a number given anew is told from the old one.

    A process that was killed, and that its parent did not look after yet, began at no time (-1); None where the
    system does not tell.
    """
    try:
        # The second field is the program's name in brackets, in which anything may stand.
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
