import json
import shutil
from pathlib import Path

import pytest

from distill.errors import CacheError
from distill.pipeline.cache import PAIR_IDS_NAME
from distill.pipeline.cache_folder import fidelity_of, histograms_of
from distill.pipeline.cache_sources import SOURCES_NAME
from distill.pipeline.run_folder import RunFolder


@pytest.fixture
def moved(finished: RunFolder, tmp_path: Path) -> Path:
    """The caches and pairs of the finished run in another place, as they would be on another machine."""
    for name in ("cache", "pairs"):
        shutil.copytree(finished.stage(name), tmp_path / "moved" / name)
    return tmp_path / "moved"


def test_a_runs_cache_shows_entropy_and_delta_te(moved: Path):
    found = histograms_of(moved / "cache" / "teacher")
    num_pairs = len((moved / "pairs" / "pairs.jsonl").read_text().splitlines())
    assert set(found) == {"entropy_nats", "delta_te_nats"}
    assert found["delta_te_nats"].num_values == num_pairs


def test_without_pairs_there_is_no_delta_te(moved: Path):
    (moved / "cache" / PAIR_IDS_NAME).unlink()
    assert set(histograms_of(moved / "cache" / "teacher")) == {"entropy_nats"}
    assert not histograms_of(moved / "cache" / "reference")


def test_a_cache_is_near_the_live_model_that_filled_it(moved: Path):
    teacher = fidelity_of(moved / "cache" / "teacher", num_sequences=3)
    assert teacher.num_sequences == 3
    assert [tier.codec for tier in teacher.tiers] == ["exact"]
    assert teacher.tiers[0].kl_nats is not None
    assert teacher.tiers[0].kl_nats < 1e-5
    reference = fidelity_of(moved / "cache" / "reference", num_sequences=2)
    assert reference.tiers[0].max_score_difference_nats is not None
    assert reference.tiers[0].max_score_difference_nats < 1e-4


def test_another_model_at_its_place_is_refused(moved: Path):
    path = moved / "cache" / SOURCES_NAME
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"teacher": told["reference"]}))
    with pytest.raises(CacheError, match="teacher_fingerprint is .* but .* is asked for"):
        fidelity_of(moved / "cache" / "teacher", num_sequences=1)


def test_other_pairs_are_refused(moved: Path):
    with (moved / "pairs" / "pairs.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(CacheError, match="data_fingerprint is .* but .* is asked for"):
        fidelity_of(moved / "cache" / "teacher", num_sequences=1)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (f"cache/{SOURCES_NAME}", "do not say where their models are"),
        ("pairs/pairs.jsonl", r"pairs of teacher cache .* are not at .*\nwhy: a cache stores completions only"),
    ],
)
def test_what_is_missing_is_named(moved: Path, gone: str, message: str):
    (moved / gone).unlink()
    with pytest.raises(CacheError, match=message):
        fidelity_of(moved / "cache" / "teacher", num_sequences=1)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"served_teacher": "owner/model"}, "a server filled it"),
        ({}, f"{SOURCES_NAME} names no model of a cache teacher"),
    ],
)
def test_a_cache_whose_model_is_not_here_is_compared_with_nothing(moved: Path, told: dict[str, object], why: str):
    path = moved / "cache" / SOURCES_NAME
    path.write_text(json.dumps({"reference": json.loads(path.read_text())["reference"]} | told))
    with pytest.raises(CacheError, match=rf"cannot be compared with its teacher\nwhy: .*{why}"):
        fidelity_of(moved / "cache" / "teacher", num_sequences=1)
