"""Random access to a finished cache by sequence id; shards are memory-mapped and opened when first needed."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.errors import CacheError
from distill.files import sha256_of_file
from distill.numerics import log_softmax
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import CodecName
from distill.teacher_cache.head_file import read_head
from distill.teacher_cache.manifest import HEAD_NAME, SHARDS_NAME, CacheManifest, ShardRecord, read_manifest
from distill.teacher_cache.scoring import float_head
from distill.teacher_cache.shard import ShardReader, damaged


class TeacherCache:
    """A finished cache, read-only."""

    def __init__(self, folder: Path, manifest: CacheManifest, *, checks_checksums: bool) -> None:
        self.folder = folder
        self.manifest = manifest
        self._checks_checksums = checks_checksums
        self._shards: dict[int, ShardReader] = {}

    @classmethod
    def open(cls, folder: Path | str, *, checks_checksums: bool = True) -> Self:
        """Opens a cache; reads its manifest only.

        Args:
            folder: where `score_sequences` wrote it.
            checks_checksums: compare a shard's sha256 when it is first opened, which reads the whole shard once.

        Raises:
            CacheError: there is no cache, its manifest is damaged, or it is not finished.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if not manifest.complete:
            raise CacheError(
                f"teacher cache {folder} is not finished: {len(manifest.shards)} of {manifest.num_shards} shards",
                why="sequences in the missing shards have no scores",
                fix="run the command that makes it again; it goes on where it stopped",
            )
        manifest.require_consistent(folder=folder)
        return cls(folder, manifest, checks_checksums=checks_checksums)

    @property
    def sequence_ids(self) -> list[str]:
        """Ids of all sequences, shard after shard."""
        return list(self._index)

    def __len__(self) -> int:
        return self.manifest.num_sequences

    def __contains__(self, sequence_id: object) -> bool:
        return sequence_id in self._index

    def __getitem__(self, sequence_id: str) -> "CachedSequence":
        """One sequence's scores.

        Raises:
            CacheError: the cache does not hold the id.
        """
        self.require_sequences([sequence_id])
        return CachedSequence(self, sequence_id)

    def require(
        self,
        *,
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
        self.manifest.require(
            folder=self.folder,
            teacher_fingerprint=teacher_fingerprint,
            tokenizer_fingerprint=tokenizer_fingerprint,
            template_hash=template_hash,
            max_length_tokens=max_length_tokens,
            data_fingerprint=data_fingerprint,
            codec=codec,
        )

    def require_sequences(self, sequence_ids: Sequence[str]) -> None:
        """Refuses data that this cache does not cover.

        Raises:
            CacheError: says how many of the ids are missing, and names the first.
        """
        missing = [sequence_id for sequence_id in dict.fromkeys(sequence_ids) if sequence_id not in self._index]
        if missing:
            raise CacheError(
                f"{len(missing)} of {len(set(sequence_ids))} sequences are not in teacher cache {self.folder}, "
                f"the first is {missing[0][:12]}",
                why="a sequence is found by its exact tokens; other data, another tokenizer, chat template or "
                "max_length_tokens gives other tokens",
                fix="make the cache again from this data: distill cache RECIPE",
            )

    @cached_property
    def head(self) -> OutputHead:
        """The teacher's output head in its stored dtype.

        Raises:
            CacheError: the codec stores none, or the file is damaged.
        """
        self._require_distributions()
        path = self.folder / HEAD_NAME
        if self._checks_checksums and path.exists() and sha256_of_file(path) != self.manifest.head_sha256:
            raise damaged(path, "its checksum is not the manifest's")
        hidden_size = self.manifest.hidden_size
        assert hidden_size is not None
        return read_head(path, vocab_size=self.manifest.vocab_size, hidden_size=hidden_size)

    def num_tokens(self, sequence_id: str) -> int:
        """Completion tokens of one sequence."""
        shard, row = self._place(sequence_id)
        return shard.offsets[row + 1] - shard.offsets[row]

    def token_log_probs(self, sequence_ids: Sequence[str]) -> Float[Tensor, " tokens"]:
        """Log-probs of the completion tokens of several sequences, end to end, in nats."""
        return self._joined("token_log_probs", sequence_ids)

    def completion_ids(self, sequence_ids: Sequence[str]) -> Int[Tensor, " tokens"]:
        """Completion tokens of several sequences, end to end."""
        return self._joined("completion_ids", sequence_ids).long()

    def hidden_states(self, sequence_ids: Sequence[str]) -> Float[Tensor, "tokens hidden"]:
        """Final hidden states that predicted the completion tokens of several sequences, end to end, as stored.

        Raises:
            CacheError: the codec stores none.
        """
        self._require_distributions()
        return self._joined("hidden_states", sequence_ids)

    def log_probs(self, sequence_ids: Sequence[str]) -> Float[Tensor, "tokens vocab"]:
        """The teacher's whole distributions for several sequences, end to end, in float32.

        Raises:
            CacheError: the codec stores no distributions; names the command that adds them.
        """
        return log_softmax(self._float_head.logits(self.hidden_states(sequence_ids)))

    @cached_property
    def _float_head(self) -> OutputHead:
        return float_head(self.head)

    @cached_property
    def _index(self) -> dict[str, tuple[int, int]]:
        """Shard number and row of each sequence id."""
        index: dict[str, tuple[int, int]] = {}
        for number, record in enumerate(self.manifest.shards):
            for row, sequence_id in enumerate(self._shard(number).sequence_ids):
                if sequence_id in index:
                    raise damaged(self._path(record), f"sequence {sequence_id[:12]} stands in another shard too")
                index[sequence_id] = (number, row)
        return index

    def _shard(self, number: int) -> ShardReader:
        reader = self._shards.get(number)
        if reader is None:
            record = self.manifest.shards[number]
            reader = open_shard(self.folder, self.manifest, record, checks_checksum=self._checks_checksums)
            self._shards[number] = reader
        return reader

    def _path(self, record: ShardRecord) -> Path:
        return self.folder / SHARDS_NAME / record.name

    def _place(self, sequence_id: str) -> tuple[ShardReader, int]:
        if sequence_id not in self._index:
            self.require_sequences([sequence_id])
        number, row = self._index[sequence_id]
        return self._shard(number), row

    def _joined(self, name: str, sequence_ids: Sequence[str]) -> Tensor:
        self.require_sequences(sequence_ids)
        places = [self._place(sequence_id) for sequence_id in sequence_ids]
        return torch.cat([shard.rows(name, row) for shard, row in places])

    def _require_distributions(self) -> None:
        if self.manifest.hidden_size is None:
            raise CacheError(
                f"teacher cache {self.folder} has codec {self.manifest.codec}",
                why="it stores the log-prob of each token only, no whole distributions",
                fix="distill cache RECIPE cache.codec=exact",
            )


class CachedSequence:
    """What the teacher said about one completion; row i predicted completion token i, end-of-turn included."""

    def __init__(self, cache: TeacherCache, sequence_id: str) -> None:
        self._cache = cache
        self.sequence_id = sequence_id

    def completion_ids(self) -> Int[Tensor, " tokens"]:
        """The completion's tokens."""
        return self._cache.completion_ids([self.sequence_id])

    def token_log_probs(self) -> Float[Tensor, " tokens"]:
        """Log-prob of each token in nats, float32, from the teacher's unrounded hidden states."""
        return self._cache.token_log_probs([self.sequence_id])

    def hidden_states(self) -> Float[Tensor, "tokens hidden"]:
        """Final hidden states as stored.

        Raises:
            CacheError: the codec stores none.
        """
        return self._cache.hidden_states([self.sequence_id])

    def log_probs(self) -> Float[Tensor, "tokens vocab"]:
        """The whole distribution at each token, float32.

        Raises:
            CacheError: the codec stores none; names the command that adds them.
        """
        return self._cache.log_probs([self.sequence_id])


def open_shard(folder: Path, manifest: CacheManifest, record: ShardRecord, *, checks_checksum: bool) -> ShardReader:
    """Opens one shard and holds it against its record.

    Raises:
        CacheError: the shard is missing, cut off, changed, or breaks the layout; names it.
    """
    path = folder / SHARDS_NAME / record.name
    if not path.exists():
        raise damaged(path, "the file is missing")
    if path.stat().st_size != record.size_bytes:
        raise damaged(path, f"it has {path.stat().st_size} bytes, not {record.size_bytes}")
    if checks_checksum and sha256_of_file(path) != record.sha256:
        raise damaged(path, "its checksum is not the manifest's")
    reader = ShardReader(path, layout=manifest.layout)
    if (reader.num_sequences, reader.num_tokens) != (record.num_sequences, record.num_tokens):
        raise damaged(
            path,
            f"it holds {reader.num_sequences} sequences and {reader.num_tokens} tokens, "
            f"not {record.num_sequences} and {record.num_tokens}",
        )
    return reader
