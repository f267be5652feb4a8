"""Brings MT-Bench's public files from their homes, or from a folder; each is checked before it gets its name."""

import hashlib
import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

from distill.errors import DataError, EndpointError
from distill.files import locked, replacing_file, sha256_of_file, write_json
from eval.mt_bench.sources import GITHUB_URL, HUB_URL, SOURCES, Source

log = logging.getLogger(__name__)

TIMEOUT_S = 60.0
NUM_TRIES = 3
PAUSE_S = 1.0
PASSING_STATUS = (408, 429, 500, 502, 503, 504)
LABELS = ("question_id", "turn", "model_a", "model_b", "judge", "winner")
PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Fetched:
    """A file of the benchmark's folder and how it came there; `absent`: the folder given holds none."""

    target: str
    status: Literal["kept", "downloaded", "copied", "absent"]
    what: str
    origin: str
    licence: str
    sha256: str


@dataclass(frozen=True)
class Net:
    """How to ask: addresses of the two sites, without a slash at the end, seconds for an answer, between two tries."""

    github_url: str = GITHUB_URL
    hub_url: str = HUB_URL
    timeout_s: float = TIMEOUT_S
    pause_s: float = PAUSE_S


def fetch_mt_bench(
    output_dir: Path, *, from_dir: Path | None = None, net: Net | None = None, sources: Sequence[Source] = SOURCES
) -> list[Fetched]:
    """Fills a benchmark's folder; files that are there and right stay, so that a second call goes on.

    `sources.json` beside the files says where each came from and under which licence.

    Args:
        output_dir: the benchmark's folder.
        from_dir: a folder that holds the files, in FastChat's layout or this one; None: from their public homes.
        net: where the homes are.
        sources: which files.

    Raises:
        DataError: a file has another checksum than the known one, one of another content is in the way, or the
            folder holds none of the files.
        EndpointError: no home of a file answers; those already fetched stay.
    """
    if from_dir is not None and not from_dir.is_dir():
        raise DataError(f"{from_dir} is no folder", fix="name a folder that holds MT-Bench's files")
    fetched = []
    with locked(output_dir / ".fetch.lock"):
        for source in sources:
            if _stands(output_dir / source.target, source):
                fetched.append(_fetched(source, "kept", source.homes[0].name))
            elif from_dir is None:
                fetched.append(_downloaded(source, output_dir, net or Net()))
            else:
                fetched.append(_copied(source, output_dir, from_dir))
        if all(item.status == "absent" for item in fetched):
            named = ", ".join(source.names[0] for source in sources)
            raise DataError(f"{from_dir} holds none of MT-Bench's files", why=f"looked for: {named}")
        here = [item for item in fetched if item.status != "absent"]
        write_json(
            output_dir / "sources.json",
            {
                "format": "distill-sources",
                "version": 1,
                "files": {
                    source.target: {
                        "sha256": source.sha256,
                        "licence": source.licence,
                        "homes": [home.url(github_url=GITHUB_URL, hub_url=HUB_URL) for home in source.homes],
                    }
                    for source in sources
                    if source.target in {item.target for item in here}
                },
            },
        )
    return fetched


def labels_of_parquet(content: bytes) -> bytes:
    """The hub's votes without the conversations: JSON lines in order of question, turn, models, judge and winner.

    Raises:
        DataError: the bytes are no Parquet file with these columns.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(BytesIO(content), columns=list(LABELS)).to_pylist()
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise DataError("the hub's file of votes cannot be read", why=str(error).splitlines()[0]) from error
    missing = [name for name in LABELS if rows and name not in rows[0]]
    if missing:
        raise DataError(f"the hub's file of votes has no column {missing[0]}", why="the data set has changed")
    rows.sort(key=lambda row: tuple(row[name] for name in LABELS))
    return "".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in rows).encode()


def _stands(path: Path, source: Source) -> bool:
    """Whether the file is there and right.

    Raises:
        DataError: another file has its name; it is never overwritten.
    """
    if not path.exists():
        return False
    found = sha256_of_file(path)
    if found != source.sha256:
        raise DataError(
            f"{path} is in the way: sha256 {found[:12]}…, not {source.sha256[:12]}…",
            why="it is not the public file, and may be yours",
            fix="move it away, or name another folder with --out",
        )
    return True


def _downloaded(source: Source, output_dir: Path, net: Net) -> Fetched:
    """Tries each home; they hold the same bytes, which the checksum proves."""
    failures = []
    for home in source.homes:
        url = home.url(github_url=net.github_url, hub_url=net.hub_url)
        try:
            content = _get(url, net)
        except EndpointError as error:
            failures.append(error)
            if home is not source.homes[-1]:
                log.warning("%s: %s; asking its other home", source.target, error.what)
            continue
        if content[:4] == PARQUET_MAGIC:
            content = labels_of_parquet(content)
        _write(output_dir / source.target, content, source, origin=url)
        log.info("%s: %d bytes from %s", source.target, len(content), home.name)
        return _fetched(source, "downloaded", home.name)
    last = failures[-1]
    raise EndpointError(
        f"{source.target} cannot be fetched: {'; '.join(error.what for error in failures)}",
        why=last.why,
        fix="check the connection or the proxy (HTTPS_PROXY), or read a folder that holds the files: --from DIR",
    )


def _copied(source: Source, output_dir: Path, from_dir: Path) -> Fetched:
    """Takes the first file of one of the source's names with the right checksum."""
    named = [path for name in source.names for path in _files_named(from_dir, name)]
    if not named:
        return _fetched(source, "absent", str(from_dir))
    chosen = next((path for path in named if sha256_of_file(path) == source.sha256), named[0])
    _write(output_dir / source.target, chosen.read_bytes(), source, origin=str(chosen))
    return _fetched(source, "copied", str(chosen))


def _files_named(folder: Path, name: str) -> list[Path]:
    found = [folder / name[1:]] if name.startswith("/") else sorted(folder.rglob(name))
    return [path for path in found if path.is_file()]


def _fetched(source: Source, status: Literal["kept", "downloaded", "copied", "absent"], origin: str) -> Fetched:
    return Fetched(source.target, status, source.what, origin, source.licence, source.sha256)


def _write(path: Path, content: bytes, source: Source, *, origin: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise DataError(
            f"{origin} is not MT-Bench's {source.target}: sha256 {found}, {len(content)} bytes",
            why=f"sha256 {source.sha256} was expected, and a score on other texts has no name",
            fix="fetch it again; a proxy's error page or a line-end conversion (git's autocrlf) changes the bytes",
        )
    with replacing_file(path) as partial:
        partial.write_bytes(content)


def _get(url: str, net: Net) -> bytes:
    """The bytes at an address; asked again after a passing fault.

    Raises:
        EndpointError: it does not answer; says what happened.
    """
    for number in range(NUM_TRIES):
        try:
            with urllib.request.urlopen(url, timeout=net.timeout_s) as reply:
                content: bytes = reply.read()
                return content
        except urllib.error.HTTPError as error:
            why, is_passing = f"status {error.code} {error.reason}", error.code in PASSING_STATUS
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            why = str(getattr(error, "reason", error)) or type(error).__name__
            is_passing = isinstance(error, http.client.IncompleteRead | ConnectionResetError | TimeoutError)
        if not is_passing or number + 1 == NUM_TRIES:
            break
        log.warning("%s: %s; asking again", url, why)
        time.sleep(net.pause_s * 2**number)
    raise EndpointError(f"{url} does not answer as it should", why=why)
