"""Random access to a finished cache by sequence id: what each of its tiers tells, decoded."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.errors import CacheError
from distill.numerics import segment_sum
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.cached_sequence import CachedSequence
from distill.teacher_cache.codecs import (
    CODECS,
    Codec,
    CodecName,
    EncodedRows,
    Samples,
    TopK,
    decode_samples,
    decode_top_k,
    hidden_states,
)
from distill.teacher_cache.manifest import CacheManifest, read_manifest
from distill.teacher_cache.stored import StoredCache

# Which tier answers, the most exact first; among equals the cheapest to read.
SCORE_CODECS: tuple[CodecName, ...] = ("scores", "exact", "logits-bf16", "exact-int8")
DISTRIBUTION_CODECS: tuple[CodecName, ...] = ("exact", "logits-bf16", "exact-int8")
HIDDEN_STATE_CODECS: tuple[CodecName, ...] = ("exact", "exact-int8")

# Log-probs held at once where a caller takes them block by block: 64 MiB in float32.
MAX_LOG_PROBS = 2**24
_SEQUENCES_AT_ONCE = 1024


class TeacherCache:
    """A finished cache, read-only. Any number of processes may read one at the same time.

    What is asked for several sequences comes end to end, in the order of the ids.
    """

    def __init__(self, folder: Path, manifest: CacheManifest, *, checks_checksums: bool) -> None:
        self.folder = folder
        self.manifest = manifest
        self._stored = StoredCache(folder, manifest, checks_checksums=checks_checksums)
        self._codecs = self._stored.codecs

    @classmethod
    def open(cls, folder: Path | str, *, checks_checksums: bool = True) -> Self:
        """Opens a cache that has at least one complete tier; reads its manifest only.

        Args:
            folder: where it was written, or moved to.
            checks_checksums: hold each file against its sha256 and its numbers against its codec when it is first
                opened, which reads the whole file once, a block at a time. Without, files are held against sizes,
                names, dtypes, shapes, offsets and totals only.

        Raises:
            CacheError: there is no cache, its manifest is damaged, or no tier is finished.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if not manifest.codecs:
            begun = ", ".join(tier.codec for tier in manifest.tiers) or "none"
            raise CacheError(
                f"teacher cache {folder} is not finished: no tier is complete (begun: {begun})",
                why="sequences in the missing shards have no scores",
                fix="run the command that makes it again; it goes on where it stopped",
            )
        return cls(folder, manifest, checks_checksums=checks_checksums)

    @property
    def tiers(self) -> tuple[CodecName, ...]:
        """The encodings that are complete."""
        return self.manifest.codecs

    @property
    def sequence_ids(self) -> list[str]:
        """Ids of all sequences, shard after shard."""
        return self._stored.index.sequence_ids

    def __len__(self) -> int:
        return self.manifest.num_sequences

    def __contains__(self, sequence_id: object) -> bool:
        return isinstance(sequence_id, str) and int(self._stored.index.positions([sequence_id])[0]) >= 0

    def __getitem__(self, sequence_id: str) -> CachedSequence:
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
    ) -> None:
        """Refuses a cache that was made for something else; a field left at None is not compared.

        Raises:
            CacheError: names the first field that differs, with both values.
        """
        expected: dict[str, object] = {
            "tokenizer_fingerprint": tokenizer_fingerprint,
            "template_hash": template_hash,
            "teacher_fingerprint": teacher_fingerprint,
            "max_length_tokens": max_length_tokens,
            "data_fingerprint": data_fingerprint,
        }
        asked = {name: value for name, value in expected.items() if value is not None}
        self.manifest.require_fields(asked, folder=self.folder, fix="make the cache again: distill cache RECIPE")

    def require_sequences(self, sequence_ids: Sequence[str]) -> None:
        """Refuses data that this cache does not cover.

        Raises:
            CacheError: says how many of the ids are missing, and names the first.
        """
        self._stored.places(sequence_ids)

    def require_tier(self, *codecs: CodecName, by: str) -> CodecName:
        """The first of `codecs` that the cache has.

        Args:
            codecs: encodings that would do, the best first.
            by: who needs it, for the message.

        Raises:
            CacheError: it has none of them; names the command that adds the first.
        """
        for codec in codecs:
            if codec in self._codecs:
                return codec
        wanted = " or ".join(codecs)
        raise CacheError(
            f"{by} needs tier {wanted} of teacher cache {self.folder}, which has {', '.join(self.tiers)}",
            why=f"{codecs[0]} keeps {CODECS[codecs[0]].summary}; what the cache has does not tell it",
            fix=f"distill cache RECIPE cache.codec=[{','.join((*self.tiers, codecs[0]))}]",
        )

    def codec(self, name: CodecName) -> Codec:
        """The codec that reads tier `name`.

        Raises:
            CacheError: the cache has no such tier.
        """
        return self._codecs[self.require_tier(name, by=f"reading {name}")]

    @property
    def head(self) -> OutputHead:
        """The teacher's output head in its stored dtype.

        Raises:
            CacheError: no tier needs one and none is stored, or the file is damaged.
        """
        if self.manifest.head_sha256 is None:
            self.require_tier(*HIDDEN_STATE_CODECS, by="the output head")
        return self._stored.head

    def num_tokens(self, sequence_id: str) -> int:
        """Completion tokens of one sequence."""
        return int(self._stored.places([sequence_id]).lengths[0])

    def lengths(self, sequence_ids: Sequence[str]) -> Int[Tensor, " sequences"]:
        """Completion tokens of each sequence."""
        return torch.from_numpy(self._stored.places(sequence_ids).lengths)

    def completion_ids(self, sequence_ids: Sequence[str]) -> Int[Tensor, " tokens"]:
        """Completion tokens of several sequences, end to end."""
        return self._stored.completion_ids(self._stored.places(sequence_ids))

    def records(self, codec: CodecName, sequence_ids: Sequence[str]) -> EncodedRows:
        """A tier's rows as stored, copied out of the mapped shards.

        Raises:
            CacheError: the cache has no such tier, or lacks a sequence.
        """
        self.codec(codec)
        return self._rows(codec, sequence_ids)

    def token_log_probs(self, sequence_ids: Sequence[str]) -> Float[Tensor, " tokens"]:
        """Log-probs of the completion tokens in nats, from `scores` if there, else from whole distributions.

        Raises:
            CacheError: no tier tells them; names the command that adds one.
        """
        codec = self.require_tier(*SCORE_CODECS, by="log-probs of tokens")
        places = self._stored.places(sequence_ids)
        values = self._codecs[codec].token_log_probs(
            self._stored.rows(codec, places), self._stored.completion_ids(places), head=self._head_for(codec)
        )
        return self._finite(values, codec, sequence_ids, name="token_log_probs")

    def log_probs(self, sequence_ids: Sequence[str]) -> Float[Tensor, "tokens vocab"]:
        """The teacher's whole distributions in nats, float32.

        Raises:
            CacheError: no tier stores distributions; names the command that adds one.
        """
        codec = self.require_tier(*DISTRIBUTION_CODECS, by="whole distributions")
        return self._log_probs(codec, self._rows(codec, sequence_ids), sequence_ids)

    def log_probs_in_blocks(
        self, sequence_ids: Sequence[str], *, max_log_probs: int = MAX_LOG_PROBS
    ) -> Iterator[Float[Tensor, "tokens vocab"]]:
        """The same a block of tokens at a time, at most `max_log_probs` numbers each, or one token.

        Raises:
            CacheError: as `log_probs`.
        """
        codec = self.require_tier(*DISTRIBUTION_CODECS, by="whole distributions")
        rows_at_once = max(1, max_log_probs // self.manifest.vocab_size)
        for sequence_id in sequence_ids:
            records = self._rows(codec, [sequence_id]).records
            for part in torch.split(records, rows_at_once):
                yield self._log_probs(codec, EncodedRows(part), [sequence_id])

    def sequence_log_probs(self, sequence_ids: Sequence[str]) -> Float[Tensor, " sequences"]:
        """Log-prob of each completion in nats, float64: the sum over its tokens.

        Raises:
            CacheError: as `token_log_probs`.
        """
        sums = [torch.zeros(0, dtype=torch.float64)]
        for start in range(0, len(sequence_ids), _SEQUENCES_AT_ONCE):
            ids = sequence_ids[start : start + _SEQUENCES_AT_ONCE]
            rows = torch.repeat_interleave(self.lengths(ids))
            sums.append(segment_sum(self.token_log_probs(ids).double(), rows, len(ids)))
        return torch.cat(sums)

    def hidden_states(self, sequence_ids: Sequence[str]) -> Float[Tensor, "tokens hidden"]:
        """Final hidden states that predicted the completion tokens, float32.

        Raises:
            CacheError: no tier stores them; names the command that adds one.
        """
        codec = self.require_tier(*HIDDEN_STATE_CODECS, by="hidden states")
        values = hidden_states(self._codecs[codec], self._rows(codec, sequence_ids))
        return self._finite(values, codec, sequence_ids, name="hidden_states")

    def top_k(self, sequence_ids: Sequence[str]) -> TopK:
        """The likeliest tokens at each position with their true log-probs and the mass of all others.

        Raises:
            CacheError: there is no tier `top-k`; names the command that adds it.
        """
        codec = self.require_tier("top-k", by="lists of likeliest tokens")
        lists = decode_top_k(self._codecs[codec], self._rows(codec, sequence_ids))
        for name in ("log_probs", "tail_mass", "log_normaliser"):
            self._finite(getattr(lists, name), codec, sequence_ids, name=name)
        return lists

    def samples(self, sequence_ids: Sequence[str]) -> Samples:
        """Tokens drawn from the distributions, with counts.

        Raises:
            CacheError: there is no tier `sampled`; names the command that adds it.
        """
        codec = self.require_tier("sampled", by="drawn tokens")
        return decode_samples(self._codecs[codec], self._rows(codec, sequence_ids))

    def _head_for(self, codec: CodecName) -> OutputHead | None:
        return self._stored.float_head if CODECS[codec].needs_head else None

    def _rows(self, codec: CodecName, sequence_ids: Sequence[str]) -> EncodedRows:
        return self._stored.rows(codec, self._stored.places(sequence_ids))

    def _log_probs(
        self, codec: CodecName, rows: EncodedRows, sequence_ids: Sequence[str]
    ) -> Float[Tensor, "tokens vocab"]:
        values = self._codecs[codec].log_probs(rows, head=self._head_for(codec))
        # Of a sum and not of each number: one pass, nothing kept. Impossible tokens, at -inf, leave no nan in it.
        if bool(values.sum().isnan()):
            self._refuse_numbers(codec, sequence_ids, name="log_probs")
        return values

    def _finite(self, values: Tensor, codec: CodecName, sequence_ids: Sequence[str], *, name: str) -> Tensor:
        if not bool(values.isfinite().all()):
            self._refuse_numbers(codec, sequence_ids, name=name)
        return values

    def _refuse_numbers(self, codec: CodecName, sequence_ids: Sequence[str], *, name: str) -> NoReturn:
        """Names the file that holds them; where each number is sound, it is what the head makes of them that is not."""
        self._stored.check_numbers(codec, self._stored.places(sequence_ids))
        raise CacheError(
            f"tier {codec} of teacher cache {self.folder} gives {name} that are not finite",
            why="the stored numbers are finite, and their product with the output head is not",
            fix=f"delete {self.folder} and make the cache again: distill cache RECIPE",
        )
