import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.cli_cache import CACHE_VERBS, CacheOptions, worker_overrides
from distill.errors import RecipeError
from tests.distill.teacher_cache.clusters import filled, saved_teacher

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cache of the tiers scores and exact, that no run made."""
    path = tmp_path_factory.mktemp("cli")
    return filled(saved_teacher(path / "model"), path / "cache").folder


@pytest.fixture
def cache(command: Command) -> Command:
    """`distill cache WORDS`."""
    return lambda *words: command("cache", *words)


def test_inspect_shows_figures_tiers_and_the_entropy(cache: Command, folder: Path):
    code, out, _ = cache("inspect", folder)
    assert code == 0
    for part in ("num_sequences", "teacher_fingerprint", "scores", "exact", "entropy_nats", "█"):
        assert part in out
    told = json.loads(cache("inspect", folder, "--json")[1])
    assert {tier["codec"] for tier in told["tiers"]} == {"scores", "exact"}
    assert sum(told["histograms"]["entropy_nats"]["counts"]) == told["histograms"]["entropy_nats"]["num_values"]


def test_verify_reads_every_byte(cache: Command, folder: Path):
    assert "checksums verified" in cache("verify", folder)[1]
    assert json.loads(cache("verify", folder, "--json")[1])["is_complete"] is True


def test_benchmark_has_a_row_a_tier(cache: Command, folder: Path):
    rows = json.loads(cache("benchmark", folder, "--json")[1])
    assert [row["tier"] for row in rows] == ["scores", "exact"]
    assert all(row["read_tokens_per_cpu_s"] > 0 for row in rows)
    assert rows[0]["decode_tokens_per_cpu_s"] is None
    assert "read_mb_per_cpu_s" in cache("benchmark", folder)[1]


def test_gc_says_what_would_go_and_then_removes_it(cache: Command, folder: Path):
    claim = folder / "claims" / "exact-00000.json"
    claim.parent.mkdir(exist_ok=True)
    claim.write_text('{"worker": "gone", "lease_s": 0.001}')
    title = cache("gc", folder, "--dry-run")[1]
    assert "would free" in title
    assert claim.exists()
    assert [row["file"] for row in json.loads(cache("gc", folder, "--json")[1])] == ["claims/exact-00000.json"]
    assert not claim.exists()
    assert json.loads(cache("gc", folder, "--dry-run", "--json")[1]) == []


def test_a_cache_without_a_run_cannot_be_compared_with_its_teacher(cache: Command, folder: Path):
    code, _, err = cache("verify", folder, "--against-teacher", 2)
    assert code == 2
    assert "do not say where their models are" in err
    assert "\nfix: name a cache in its run's folder, RUN/cache/teacher" in err


@pytest.mark.parametrize("verb", sorted(CACHE_VERBS))
@pytest.mark.parametrize("place", ["cache/teacher", "teacher"])
def test_the_folder_of_a_run_or_of_its_stage_leads_to_its_caches(cache: Command, tmp_path: Path, verb: str, place: str):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "manifest.json").touch()
    code, out, err = cache(verb, tmp_path)
    assert (code, out) == (2, "")
    assert err == (
        f"error: {tmp_path} is no teacher cache, but holds {tmp_path / place}\n"
        f"fix: distill cache {verb} {tmp_path / place}\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "DIR", "--workers", "2"], "--workers does not go with cache inspect\nfix: distill cache RECIPE"),
        (["gc", "DIR", "--against-teacher", "2"], "--against-teacher does not go with cache gc"),
        (["benchmark", "DIR", "--dry-run"], "--dry-run does not go with cache benchmark\nfix: distill cache gc DIR"),
        (["own.yaml", "--dry-run"], "--dry-run does not go with a recipe"),
        (["own.yaml", "--workers", "0"], "Invalid value for '--workers'"),
        (["gc"], "cache gc takes one folder, not 0"),
        (["DIR"], "cache DIR: neither a recipe (*.yaml) nor one of inspect, verify, benchmark, gc"),
        (["gc", "DIR"], "DIR is not a teacher cache"),
        (["benchmark", "DIR"], "DIR is not a teacher cache"),
    ],
)
def test_a_wrong_request_is_refused(
    cache: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], said: str
):
    monkeypatch.chdir(tmp_path)
    code, out, err = cache(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert "\nfix: " in err


def test_the_number_of_workers_is_a_setting_of_the_recipe():
    assert worker_overrides(CacheOptions(workers=3)) == ["cache.workers=3"]
    assert worker_overrides(CacheOptions()) == []


def test_every_verb_says_what_it_does():
    assert set(CACHE_VERBS) == {"inspect", "verify", "benchmark", "gc"}
    with pytest.raises(RecipeError, match="--workers does not go with it"):
        CacheOptions(workers=2).require_only("it")
