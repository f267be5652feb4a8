"""The progress of all workers on one cache, read from what they committed."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from distill.progress import Tracker
from distill.teacher_cache.codecs import CodecName
from distill.teacher_cache.manifest import (
    MANIFEST_NAME,
    CacheManifest,
    read_manifest,
    record_path,
)
from distill.teacher_cache.settings import CacheSettings
from distill.teacher_cache.shard_records import read_shard_record


class SharedProgress:
    """One bar for any number of workers: a shard counts when every tier of the job has committed it.

    Use it in a `with` block, and call `poll` now and then.
    """

    def __init__(self, folder: Path, settings: CacheSettings) -> None:
        self._folder = folder
        self._codecs: tuple[CodecName, ...] = tuple(tier.codec for tier in settings.tiers)
        self._tracker: Tracker | None = None
        self._missing: dict[int, list[CodecName]] = {}
        self._tokens: dict[int, int] = {}
        self._num_bytes = self._scored_tokens = 0
        self._started = time.monotonic()

    def poll(self) -> None:
        """Counts what was committed since the last call."""
        if self._tracker is None and not self._begin():
            return
        assert self._tracker is not None
        finished = self._newly_finished_tokens()
        if finished:
            self._scored_tokens += finished
            elapsed_s = max(time.monotonic() - self._started, 1e-9)
            figures = {"tokens/s": self._scored_tokens / elapsed_s, "MB": self._num_bytes / 1e6}
            self._tracker.advance(finished, figures=figures)

    @property
    def is_complete(self) -> bool:
        """Whether the manifest lists every tier of the job as complete."""
        manifest = self._manifest()
        return manifest is not None and set(self._codecs) <= set(manifest.codecs)

    def _manifest(self) -> CacheManifest | None:
        """The manifest, once a worker has written it."""
        return read_manifest(self._folder) if (self._folder / MANIFEST_NAME).exists() else None

    def _begin(self) -> bool:
        """Whether the workers have agreed on a plan; what stands already is counted, but not as speed."""
        manifest = self._manifest()
        if manifest is None or len(manifest.sequences) < manifest.num_shards:
            return False
        self._tokens = {number: record.num_tokens for number, record in enumerate(manifest.sequences)}
        self._missing = {number: list(self._codecs) for number in self._tokens}
        self._tracker = Tracker(f"{self._folder.name} cache, tokens of all workers", manifest.num_tokens)
        standing = self._newly_finished_tokens()
        self._num_bytes = 0
        if standing:
            self._tracker.advance(standing)
        return True

    def _newly_finished_tokens(self) -> int:
        """The tokens of the shards whose last tier was committed since the last look."""
        for codec in self._codecs:
            # One listing a tier: asking for each record by name is slow where files lie on a server.
            listed = set((self._folder / codec).glob("*.json"))
            for number, missing in self._missing.items():
                if codec in missing and record_path(self._folder, codec, number) in listed:
                    record = read_shard_record(self._folder, codec, number)
                    if record is not None:
                        missing.remove(codec)
                        self._num_bytes += record.size_bytes
        finished = [number for number, missing in self._missing.items() if not missing]
        for number in finished:
            del self._missing[number]
        return sum(self._tokens[number] for number in finished)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracker is not None:
            self._tracker.close()
