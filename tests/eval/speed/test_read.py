import pytest

from eval.speed import read
from eval.speed.figures import ReadRow, Spread
from eval.speed.read import AS_LISTS, FLATTENED, read_ratios, read_rows, reading


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(read, "HIDDEN_SIZE", 8)
    monkeypatch.setattr(read.random_head, "__kwdefaults__", {"hidden_size": 8})
    monkeypatch.setattr(read, "PARQUET_SEQUENCES", 2)
    monkeypatch.setattr(read, "MAX_TOKENS", 400)


def test_every_tier_and_both_parquet_paths_are_measured(small):
    found = reading(1, vocab_size=300)
    assert [row.name for row in found.rows] == [
        "`scores`", "`exact`", "`exact-int8`", "`top-k`", AS_LISTS, FLATTENED, "`sampled`",
    ]  # fmt: skip
    assert all(row.read_tokens_per_cpu_s.median > 0 for row in found.rows)
    assert len(found.ratios) == 4


def test_an_existing_cache_is_measured_tier_by_tier(small, tmp_path):
    settings = read.READ_TIERS[3]
    cache = read._sized_cache(tmp_path, settings, head=read.random_head(300), tier_bytes=2**16)
    (row,) = read_rows(cache, num_repeats=1, max_tokens=150)
    assert row.name == "`top-k`"
    # 300 tokens take 9 bits: 72 + 128 + 8 bytes, and a share of the file's header.
    assert 208 < row.bytes_per_token < 212
    assert row.decode_tokens_per_cpu_s is not None


def test_ratios_count_decoding_where_there_is_some():
    def at(name: str, speed: float, decode: float | None = None) -> ReadRow:
        once, twice = ({"median": s, "low": s, "high": s} if s else None for s in (speed, decode))
        return ReadRow(
            name=name,
            bytes_per_token=1,
            read_tokens_per_cpu_s=Spread.model_validate(once),
            decode_tokens_per_cpu_s=None if twice is None else Spread.model_validate(twice),
        )

    assert read_ratios(at("a", 100.0, 300.0), [at("b", 5.0)]) == {
        "the speed of b": 20.0,
        "the speed of b, decoding included": pytest.approx(15.0),
    }
    assert read_ratios(at("a", 100.0), [at("b", 5.0)]) == {"the speed of b": 20.0}
