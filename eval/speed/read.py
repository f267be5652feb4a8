"""Reading a cache: mapped rows to packed tensors, decoding apart, against nested-list Parquet in the same run."""

import random
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from distill.data import TokenizedSequence
from distill.objectives.output_head import OutputHead
from distill.teacher_cache import TeacherCache
from distill.teacher_cache.codecs import (
    CodecName,
    EncodedRows,
    HeadShape,
    TierSettings,
    TopK,
    decode_samples,
    decode_top_k,
    hidden_states,
    make_codec,
)
from eval.speed.clock import Run, interleaved, rates
from eval.speed.figures import ReadRow
from eval.speed.nested_parquet import ROWS_AT_ONCE, read_as_lists, read_flattened, write_nested
from eval.speed.synthetic_cache import synthetic_cache

VOCAB_SIZE, HIDDEN_SIZE = 151_936, 512
LENGTHS = (100, 200)
BATCH_SEQUENCES = 64
TIER_BYTES = 2**27
MAX_TOKENS = 400_000
PARQUET_SEQUENCES = 128
ROUNDS = 3
READ_TIERS: tuple[TierSettings, ...] = (
    TierSettings(codec="scores"),
    TierSettings(codec="exact"),
    TierSettings(codec="exact-int8"),
    TierSettings(codec="top-k"),
    TierSettings(codec="sampled"),
)
AS_LISTS = "nested-list Parquet through Python lists"
FLATTENED = "nested-list Parquet at its best"


@dataclass(frozen=True)
class Reading:
    """Figures of every store, and how many times faster `top-k` is read than each Parquet path."""

    rows: tuple[ReadRow, ...]
    ratios: dict[str, float]


@dataclass
class TierReads:
    """One tier of a cache, read in batches of sequences in shuffled order; CPU-seconds of all threads are counted."""

    cache: TeacherCache
    codec: CodecName
    max_tokens: int = MAX_TOKENS
    batches: list[list[str]] = field(init=False)
    num_tokens: int = field(init=False)
    rows: list[EncodedRows] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        ids = self.cache.sequence_ids
        random.Random(0).shuffle(ids)
        lengths = self.cache.lengths(ids)
        kept = max(1, int((lengths.cumsum(0) <= self.max_tokens).sum()))
        self.num_tokens = int(lengths[:kept].sum())
        self.batches = [ids[start : min(start + BATCH_SEQUENCES, kept)] for start in range(0, kept, BATCH_SEQUENCES)]

    @property
    def bytes_per_token(self) -> float:
        """Of the tier's files, headers included."""
        tier = self.cache.manifest.complete_tiers[self.codec]
        return sum(shard.size_bytes for shard in tier.shards) / self.cache.manifest.num_tokens

    def read(self) -> None:
        """Every batch's rows as packed tensors."""
        for batch in self.batches:
            self.cache.records(self.codec, batch)

    def keep(self) -> None:
        """Every batch's rows, kept to be decoded."""
        self.rows = [self.cache.records(self.codec, batch) for batch in self.batches]

    def decode(self) -> None:
        """Packed tensors to what a loss takes: integers and float32."""
        decode = _DECODERS[self.codec]
        for rows in self.rows:
            decode(self.cache, rows)

    def row(self, num_repeats: int) -> ReadRow:
        """Both on the clock, alone."""
        runs = {"read": Run(self.read)}
        if self.codec in _DECODERS:
            runs["decode"] = Run(self.decode, self.keep)
        elapsed_s = interleaved(runs, num_repeats=num_repeats, clock=time.process_time)
        self.rows = []
        return self.row_of(elapsed_s["read"], elapsed_s.get("decode"))

    def row_of(self, read_s: Sequence[float], decode_s: Sequence[float] | None) -> ReadRow:
        """The figures of measured seconds."""
        return ReadRow(
            name=f"`{self.codec}`",
            bytes_per_token=self.bytes_per_token,
            read_tokens_per_cpu_s=rates(self.num_tokens, read_s),
            decode_tokens_per_cpu_s=None if decode_s is None else rates(self.num_tokens, decode_s),
        )


_DECODERS: dict[CodecName, Callable[[TeacherCache, EncodedRows], object]] = {
    "exact": lambda cache, rows: hidden_states(cache.codec("exact"), rows),
    "exact-int8": lambda cache, rows: hidden_states(cache.codec("exact-int8"), rows),
    "top-k": lambda cache, rows: _narrow(decode_top_k(cache.codec("top-k"), rows)),
    "sampled": lambda cache, rows: decode_samples(cache.codec("sampled"), rows),
}


def read_rows(cache: TeacherCache, *, num_repeats: int = ROUNDS, max_tokens: int = MAX_TOKENS) -> list[ReadRow]:
    """Reading and decoding speed of every tier of a cache, at most `max_tokens` completion tokens of each."""
    return [TierReads(cache, codec, max_tokens=max_tokens).row(num_repeats) for codec in cache.tiers]


def reading(num_repeats: int, *, tier_bytes: int = TIER_BYTES, vocab_size: int = VOCAB_SIZE) -> Reading:
    """Every tier in a cache of its own of about `tier_bytes`, and the Parquet paths beside `top-k`."""
    head = random_head(vocab_size)
    with tempfile.TemporaryDirectory(prefix="distill-read-") as folder:
        rows: list[ReadRow] = []
        ratios: dict[str, float] = {}
        for settings in READ_TIERS:
            cache = _sized_cache(Path(folder) / settings.codec, settings, head=head, tier_bytes=tier_bytes)
            reads = TierReads(cache, settings.codec)
            if settings.codec == "top-k":
                found, ratios = _beside_parquet(reads, Path(folder), num_repeats)
                rows += found
            else:
                rows.append(reads.row(num_repeats))
    return Reading(tuple(rows), ratios)


def described(tier_bytes: int = TIER_BYTES, vocab_size: int = VOCAB_SIZE) -> str:
    """The measurement in words."""
    return (
        f"batches of {BATCH_SEQUENCES} sequences of {LENGTHS[0]} to {LENGTHS[1]} tokens in shuffled order, up to "
        f"{tier_bytes / 2**20:.0f} MiB a tier, warm page cache; vocabulary {vocab_size:,}, hidden size {HIDDEN_SIZE}; "
        f"Parquet of {PARQUET_SEQUENCES} sequences in row groups of {ROWS_AT_ONCE}, in file order: through Python "
        "lists as written by default, and at its best, uncompressed, without dictionaries, lists or copies"
    )


def random_head(vocab_size: int, *, hidden_size: int = HIDDEN_SIZE) -> OutputHead:
    """A bfloat16-sized head that leaves a few nats of entropy."""
    weight = torch.randn(vocab_size, hidden_size, generator=torch.Generator().manual_seed(1))
    return OutputHead(weight.mul_(4.0 / hidden_size**0.5))


def _sized_cache(folder: Path, settings: TierSettings, *, head: OutputHead, tier_bytes: int) -> TeacherCache:
    """A cache whose tier takes about `tier_bytes` (`sampled`: at most), or `MAX_TOKENS` rows."""
    per_token = make_codec(settings, HeadShape(*head.weight.shape)).bytes_per_token()
    num_tokens = min(MAX_TOKENS, int(tier_bytes / per_token))
    return synthetic_cache(folder, _sequences(num_tokens), settings=settings, head=head)


def _sequences(num_tokens: int) -> list[TokenizedSequence]:
    """Distinct sequences of the lengths measured, at least `num_tokens` completion tokens."""
    lengths = random.Random(0)
    found: list[TokenizedSequence] = []
    while num_tokens > 0:
        length = lengths.randint(*LENGTHS)
        found.append(TokenizedSequence((len(found),), tuple(range(length))))
        num_tokens -= length
    return found


def _beside_parquet(reads: TierReads, folder: Path, num_repeats: int) -> tuple[list[ReadRow], dict[str, float]]:
    """`top-k` and lists of the same size in Parquet, interleaved."""
    ids = [sequence_id for batch in reads.batches for sequence_id in batch][:PARQUET_SEQUENCES]
    k = reads.cache.codec("top-k").settings.k
    lengths = reads.cache.lengths(ids).tolist()
    lists = [_random_lists(length, k=k, vocab_size=reads.cache.manifest.vocab_size) for length in lengths]
    default, plain = folder / "default.parquet", folder / "plain.parquet"
    write_nested(default, lists)
    write_nested(plain, lists, is_plain=True)
    num_tokens = sum(len(top_k.token_ids) for top_k in lists)
    runs = {
        "read": Run(reads.read),
        "decode": Run(reads.decode, reads.keep),
        AS_LISTS: Run(lambda: _drained(read_as_lists(default))),
        FLATTENED: Run(lambda: _drained(read_flattened(plain, k=k))),
    }
    elapsed_s = interleaved(runs, num_repeats=num_repeats, clock=time.process_time)
    ours = reads.row_of(elapsed_s["read"], elapsed_s["decode"])
    theirs = [
        ReadRow(
            name=name,
            bytes_per_token=path.stat().st_size / num_tokens,
            read_tokens_per_cpu_s=rates(num_tokens, elapsed_s[name]),
        )
        for name, path in ((AS_LISTS, default), (FLATTENED, plain))
    ]
    return [ours, *theirs], read_ratios(ours, theirs)


def read_ratios(ours: ReadRow, theirs: Sequence[ReadRow]) -> dict[str, float]:
    """How many times faster `ours` is than each of `theirs`, as packed tensors and with decoding counted in."""
    decode = ours.decode_tokens_per_cpu_s
    speeds: Mapping[str, float] = {"": ours.read_tokens_per_cpu_s.median}
    if decode is not None:
        speeds = {**speeds, ", decoding included": 1 / (1 / speeds[""] + 1 / decode.median)}
    return {
        f"the speed of {row.name}{suffix}": speed / row.read_tokens_per_cpu_s.median
        for row in theirs
        for suffix, speed in speeds.items()
    }


def _drained(batches: Iterable[object]) -> None:
    """Reads all, and lets each batch go before the next, as the cache's are."""
    for _ in batches:
        pass


def _random_lists(length: int, *, k: int, vocab_size: int) -> TopK:
    """Lists that do not repeat, as those of a cache made for measuring do, which Parquet would compress away."""
    generator = torch.Generator().manual_seed(length)
    token_ids = torch.randint(vocab_size, (length, k), generator=generator, dtype=torch.int32)
    log_probs = torch.randn(length, k, generator=generator).mul(3).log_softmax(-1).sort(-1, descending=True).values
    return TopK(token_ids, log_probs, torch.zeros(length), torch.zeros(length))


def _narrow(top_k: TopK) -> TopK:
    return TopK(top_k.token_ids.int(), top_k.log_probs, top_k.tail_mass, top_k.log_normaliser)
