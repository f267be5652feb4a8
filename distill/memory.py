"""How much memory this process holds, now and at most."""

import resource
import sys
from pathlib import Path

_STATUS, _CLEAR, _RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs"), "5"
_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


def resident_bytes() -> int:
    """What the process holds now; its peak where the system does not say."""
    return status_bytes("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """The most that the process held since it began or since `restart_peak`."""
    return status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT_BYTES


def restart_peak() -> bool:
    """Starts the peak anew at what the process holds now; False where the system cannot (Linux can)."""
    if not _CLEAR.exists():
        return False
    _CLEAR.write_text(_RESET_PEAK)
    return True


def status_bytes(name: str) -> int | None:
    """A figure of this process's /proc/self/status, such as RssFile; None where the system does not say."""
    if not _STATUS.exists():
        return None
    found = next((line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:")), None)
    return None if found is None else int(found.split()[1]) * 1024
